//! The usual objects, each a small pure file.

mod etcd;
mod key_value;
mod multi_register;
mod mutex;
pub mod named;
mod register;

pub use etcd::EtcdModel;
pub use key_value::{KeyValue, KeyValueInput};
pub use multi_register::{MicroOperation, MultiRegister};
pub use mutex::{Mutex, MutexInput};
pub use register::{Register, RegisterInput, RegisterOutput};
