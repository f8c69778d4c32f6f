//! The usual objects, each a small pure file.

mod counter;
mod etcd;
mod key_value;
mod lock;
mod multi_register;
mod mutex;
pub mod named;
pub mod named_objects;
mod queue;
mod register;
mod set;

pub use counter::{Counter, CounterInput};
pub use etcd::EtcdModel;
pub use key_value::{KeyValue, KeyValueInput};
pub use lock::{Held, LockInput, LockOutput, OwnedLock, Semaphore};
pub use multi_register::{MicroOperation, MultiRegister};
pub use mutex::{Mutex, MutexInput};
pub use queue::{FifoQueue, QueueInput, QueueOutput, UnorderedQueue};
pub use register::{Register, RegisterInput, RegisterOutput};
pub use set::{Set, SetInput, SetOutput};
