//! The process that every provider is: informers, queue, writers, leader election, webhooks, metrics.
