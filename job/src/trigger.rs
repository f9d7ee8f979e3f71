//! What is evaluated when a job is triggered: node filter, threads and timeout, once the options are checked.

use remit_protocol::{Span, endpoint::Fault, limits::MAX_THREADS, node::Node};
use serde_json::Value;

use crate::{
    check::LONGEST_JOB,
    document::{Document, Nodes, Share, Threads, Tiers, Timeout},
    expression::{Expression, Scope},
    filter::{NodeFilter, Rank, arrange, rank_of},
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
    threads: Share,
    filter: NodeFilter,
    rank: Option<Rank>,
    limit: Option<Share>,
    seed: String,
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
        arrange(nodes, &mut selected, self.rank.as_ref(), &self.seed);
        if let Some(limit) = self.limit {
            let most = limit.of(u32::try_from(selected.len()).unwrap_or(u32::MAX));
            selected.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        selected
    }

    /// Whether each of these nodes is one that the filter selects, and they are no more than the limit, where that is a number.
    pub fn covers(&self, nodes: &[Node]) -> bool {
        let most = self.limit.map_or(u32::MAX, |limit| limit.of(u32::MAX));
        self.filter.select(nodes).len() == nodes.len()
            && u32::try_from(nodes.len()).is_ok_and(|count| count <= most)
    }

    /// How many of `count` nodes are run at once.
    pub fn threads(&self, count: u32) -> u32 {
        self.threads.of(count.max(1)).clamp(1, MAX_THREADS)
    }
}

/// Where the tiers of these nodes end, which stand in their order; none for a single tier.
pub fn tiers(nodes: &Nodes, set: &[Node]) -> Vec<u32> {
    let count = u32::try_from(set.len()).unwrap_or(u32::MAX);
    let mut ends: Vec<u32> = match &nodes.tiers {
        None => Vec::new(),
        Some(Tiers::Sizes(sizes)) => sizes
            .iter()
            .scan(0_u32, |end, size| {
                *end = end.saturating_add(size.of(count)).min(count);
                Some(*end)
            })
            .collect(),
        Some(Tiers::Rank) => {
            let value =
                |node: &Node| nodes.rank.as_ref().and_then(|rank| rank_of(node, rank)).map(str::to_owned);
            let values: Vec<Option<String>> = set.iter().map(value).collect();
            (1_u32..)
                .zip(values.windows(2))
                .filter(|(_, pair)| pair[0] != pair[1])
                .map(|(end, _)| end)
                .collect()
        }
    };
    ends.dedup();
    ends.retain(|end| *end > 0 && *end < count);
    ends.truncate(Tiers::MOST - 1);
    if !ends.is_empty() {
        ends.push(count);
    }
    ends
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
        let seed = scope.execution_id();
        Some(ResolvedNodes {
            threads: threads?,
            filter: filter?,
            rank: nodes.rank.clone(),
            limit: nodes.limit,
            seed,
        })
    });
    if faults.is_empty() { Ok(Resolved { timeout, nodes }) } else { Err(faults) }
}

impl Threads {
    /// The number of nodes at once.
    pub fn evaluate(&self, scope: &Scope) -> Result<Share, Fault> {
        const PLACE: &str = "nodes.threads";
        let expression = match self {
            Self::Fixed(threads) => return Ok(Share::Count(*threads)),
            Self::Percent(percent) => return Ok(Share::Percent(*percent)),
            Self::Expression(expression) => expression,
        };
        let value = evaluate(PLACE, expression, scope)?;
        let threads = value.as_u64().and_then(|threads| u32::try_from(threads).ok());
        let threads = threads.filter(|threads| (1..=MAX_THREADS).contains(threads)).map(Share::Count);
        let share = || value.as_str()?.parse().ok().map(Share::Percent);
        threads.or_else(share).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(60).collect();
            let message = format!("the expression `{expression}` comes to {shown}");
            let remedy = format!(
                "it has to come to a whole number from 1 to {MAX_THREADS}, or to a text such as \"10%\""
            );
            fault(PLACE, message, remedy)
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
