//! Counters and gauges, and their Prometheus text.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicI64, Ordering},
};

/// A number that rises and, if it is a gauge, falls.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicI64);

impl Number {
    /// Raises it.
    pub(crate) fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Lowers it.
    pub(crate) fn subtract(&self, by: i64) {
        self.add(-by);
    }

    /// What it is.
    pub(crate) fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $kind:literal, $name:literal, $help:literal;)*) => {
        /// What is counted.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $($(#[$doc])* pub(crate) $field: Number,)*
        }

        impl Metrics {
            /// All of it, in Prometheus' text form.
            pub(crate) fn to_text(&self) -> String {
                let mut text = String::new();
                $(metric(&mut text, $name, $kind, $help, self.$field.value());)*
                text
            }
        }
    };
}

/// Appends one metric.
pub(crate) fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: i64) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

metrics! {
    /// Open connections.
    connections: "gauge", "remit_connections", "Open connections.";
    /// Connections that were taken.
    connections_taken: "counter", "remit_connections_total", "Connections that were taken.";
    /// Connections that were closed at once.
    connections_refused: "counter", "remit_connections_refused_total", "Connections closed because there were too many.";
    /// Calls of the operator API.
    calls: "counter", "remit_api_calls_total", "Calls of the operator API.";
    /// Of those, the ones without a good token or role.
    calls_denied: "counter", "remit_api_calls_denied_total", "Calls without a good token or the role for them.";
    /// Calls of the runner API.
    runner_calls: "counter", "remit_runner_calls_total", "Signed calls of runners.";
    /// Of those, the ones that were not believed.
    runner_calls_refused: "counter", "remit_runner_calls_refused_total", "Calls of runners that were not believed.";
    /// Polls that wait.
    polls: "gauge", "remit_polls_parked", "Polls of runners that wait for work.";
    /// Readers of live events.
    readers: "gauge", "remit_event_readers", "Readers of live events.";
    /// Executions begun.
    triggered: "counter", "remit_executions_triggered_total", "Executions that were triggered over the API.";
    /// Calls that were turned away.
    shed: "counter", "remit_calls_shed_total", "Calls turned away because too much was going on.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_prometheus_text() {
        let metrics = Metrics::default();
        metrics.connections.add(3);
        metrics.connections.subtract(1);
        let text = metrics.to_text();
        assert!(text.contains("# TYPE remit_connections gauge\nremit_connections 2\n"), "{text}");
    }
}
