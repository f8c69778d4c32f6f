//! Black-box tests. See the crate's documentation for how they find the programs they run.

mod bad_input;
mod bad_requests;
mod etcdctl;
mod failover;
mod flight_recorder;
mod http2;
mod identity;
mod jepsen_run;
mod kill;
mod load;
mod members;
mod quoratectl;
mod side_by_side;
mod tidy;
