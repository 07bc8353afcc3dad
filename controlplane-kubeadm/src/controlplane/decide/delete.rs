//! The end of a control plane: workers first, then all of its machines at once.

/// What the deletion of a control plane waits for or does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// No machine is left.
    Completed,
    /// Other machines of the cluster are still there: names of machine pools and machines.
    WaitingForWorkers {
        /// Machine pools.
        pools: Vec<String>,
        /// Machines that are not ours.
        machines: Vec<String>,
    },
    /// Our machines go. etcd's members need not leave: the whole cluster goes.
    DeleteMachines,
}

/// What to do. `others` are machines of the cluster that are not ours, `pools` its machine pools.
pub fn next(own_machines: usize, others: &[String], pools: &[String]) -> Deletion {
    if own_machines == 0 {
        return Deletion::Completed;
    }
    if others.is_empty() && pools.is_empty() {
        return Deletion::DeleteMachines;
    }
    Deletion::WaitingForWorkers { pools: pools.to_vec(), machines: others.to_vec() }
}
