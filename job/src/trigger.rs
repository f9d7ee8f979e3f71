//! What is evaluated when a job is triggered: node filter, threads and timeout, once the options are checked.

use remit_protocol::{Span, endpoint::Fault, limits::MAX_THREADS, node::Node};
use serde_json::Value;

use crate::{
    check::LONGEST_JOB,
    document::{Document, Threads, Timeout},
    expression::{Expression, Scope},
    filter::{NodeFilter, Rank, arrange},
};

/// A job's own numbers, for one execution.
#[derive(Debug)]
pub struct Resolved {
    /// How long the execution may take.
    pub timeout: Option<Span>,
    /// The nodes, if the job speaks of nodes.
    pub nodes: Option<ResolvedNodes>,
}

/// Which nodes, in which order, and how many at once.
#[derive(Debug)]
pub struct ResolvedNodes {
    /// How many at once.
    pub threads: u32,
    filter: NodeFilter,
    rank: Option<Rank>,
}

impl ResolvedNodes {
    /// The same with another filter: whoever triggers may choose other nodes.
    #[must_use]
    pub fn with_filter(self, filter: NodeFilter) -> Self {
        Self { filter, ..self }
    }

    /// The indices of the nodes that are run, in the order in which they are.
    pub fn select(&self, nodes: &[Node]) -> Vec<u32> {
        let mut selected = self.filter.select(nodes);
        arrange(nodes, &mut selected, self.rank.as_ref());
        selected
    }
}

fn fault(place: &str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault {
        line: None,
        column: None,
        place: place.to_owned(),
        message: message.into(),
        remedy: remedy.into(),
    }
}

fn evaluate(place: &str, expression: &Expression, scope: &Scope) -> Result<Value, Fault> {
    expression.evaluate(scope).map_err(|invalid| fault(place, invalid.to_string(), ""))
}

/// Evaluates what a job says about its nodes and its time in `scope`, which has no steps yet.
pub fn resolve(document: &Document, scope: &Scope) -> Result<Resolved, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut keep = |fault| {
        faults.push(fault);
    };
    let timeout =
        document.timeout.as_ref().and_then(|timeout| timeout.evaluate(scope).map_err(&mut keep).ok());
    let nodes = document.nodes.as_ref().and_then(|nodes| {
        let threads = nodes.threads.evaluate(scope).map_err(&mut keep).ok();
        let filter = nodes.filter.resolve(scope);
        let filter = filter.map_err(|invalid| keep(fault("nodes.filter", invalid.to_string(), ""))).ok();
        Some(ResolvedNodes { threads: threads?, filter: filter?, rank: nodes.rank.clone() })
    });
    if faults.is_empty() { Ok(Resolved { timeout, nodes }) } else { Err(faults) }
}

impl Threads {
    /// The number of nodes at once.
    pub fn evaluate(&self, scope: &Scope) -> Result<u32, Fault> {
        const PLACE: &str = "nodes.threads";
        let expression = match self {
            Self::Fixed(threads) => return Ok(*threads),
            Self::Expression(expression) => expression,
        };
        let value = evaluate(PLACE, expression, scope)?;
        let threads = value.as_u64().and_then(|threads| u32::try_from(threads).ok());
        threads.filter(|threads| (1..=MAX_THREADS).contains(threads)).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(60).collect();
            let message = format!("the expression `{expression}` comes to {shown}");
            fault(PLACE, message, format!("it has to come to a whole number from 1 to {MAX_THREADS}"))
        })
    }
}

impl Timeout {
    /// The span of time.
    pub fn evaluate(&self, scope: &Scope) -> Result<Span, Fault> {
        const PLACE: &str = "timeout";
        let expression = match self {
            Self::Fixed(span) => return Ok(*span),
            Self::Expression(expression) => expression,
        };
        let value = evaluate(PLACE, expression, scope)?;
        let span = value.as_str().and_then(|text| text.parse::<Span>().ok());
        span.filter(|span| span.as_millis() > 0 && *span <= LONGEST_JOB).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(60).collect();
            let message = format!("the expression `{expression}` comes to {shown}");
            fault(PLACE, message, format!("it has to come to a text such as \"30m\", at most {LONGEST_JOB}"))
        })
    }
}
