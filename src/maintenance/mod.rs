//! Work that no request asks for: who does it ([`lease`]), what it may ask before each step and what it tells ([`job`]), and what came
//! of it ([`report`]).
//!
//! When it is done is the registry's to say; what it consists of, the protocols'. A lease only saves work: everything that is done under one
//! stays correct when two holders overlap.

mod job;
mod lease;
mod report;
mod staging;

pub use job::{Job, Progress, Standing};
pub use lease::{Lease, Leases};
pub use report::{Detail, Report};
pub use staging::sweep_staging;
