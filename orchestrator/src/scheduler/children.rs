//! Child executions: made for a section that runs other jobs, watched, and told to their parent when they have all ended.
//!
//! Nothing is remembered between rounds: what there is stands in the store, and each round compares it with what there
//! should be. *Invariant:* a child is made once for its parent's section and item, whatever is repeated.

use remit_job::{
    children::{self, MAX_DEPTH},
    document::{Action, JobAction},
};
use remit_protocol::{
    ExecutionId, OptionName, Origin, Outcome, RefusalCode, SectionNumber, StepIndex,
    operator::{Again, CancelMode},
};
use serde_json::{Map, Value};

use super::{ControlError, Scheduler, State, Trigger, TriggerError, again::Item};
use crate::{
    execution::{Live, Parent, SectionState},
    store::{Child, ResultFilter, StoreError},
};

const REFUSED: Outcome = Outcome::Refused(RefusalCode::Parameter);

/// What is due for a section that runs other jobs.
enum Due {
    /// Its children are to exist, and it waits for them; where it goes back to an earlier execution, with that.
    Wanted(Vec<Trigger>, Option<(Again, StepIndex)>),
    /// It cannot have children.
    Wrong(String),
    /// It does not wait for children any more.
    Over,
}

impl Scheduler {
    /// Sees to every section whose children may have changed.
    pub(super) async fn see_to_children(&self) -> Result<(), StoreError> {
        let families = std::mem::take(&mut self.state().families);
        for (id, section) in families {
            if let Err(error) = self.see_to_family(id, section).await {
                self.state().families.insert((id, section));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn see_to_family(&self, id: ExecutionId, section: SectionNumber) -> Result<(), StoreError> {
        let due = {
            let state = self.state();
            state.live.get(&id).map_or(Due::Over, |live| state.due(live, section))
        };
        let known = self.store().children(id, section).await?;
        let wanted = match due {
            Due::Wanted(wanted, None) => {
                wanted.into_iter().map(|trigger| Item::Wanted(Box::new(trigger))).collect()
            }
            Due::Wanted(wanted, Some((again, step))) => self.items_again(&again, step, wanted).await?,
            Due::Wrong(why) => return self.children_ended(id, section, REFUSED, None, &why).await,
            Due::Over => return self.call_off(known).await,
        };
        let mut children = Vec::with_capacity(wanted.len());
        let (mut outcomes, mut missing) = (Vec::with_capacity(wanted.len()), false);
        for (number, item) in (0_u32..).zip(wanted) {
            let trigger = match item {
                Item::Wanted(trigger) => trigger,
                Item::Taken(child) => {
                    outcomes.push(Some(child.state.outcome().unwrap_or(Outcome::Succeeded)));
                    children.push(child);
                    continue;
                }
                Item::Left(child) => {
                    outcomes.push(Some(Outcome::Skipped));
                    children.push(child);
                    continue;
                }
            };
            if let Some(child) = known.iter().find(|child| child.item == number) {
                outcomes.push(child.state.outcome());
                children.push(child.clone());
                continue;
            }
            missing = true;
            match self.trigger(Trigger::clone(&trigger)).await {
                Ok(_) => {}
                Err(TriggerError::Store(error)) => return Err(error),
                Err(error) => {
                    let why = format!("the job {} cannot be run: {error}", trigger.job);
                    self.call_off(known).await?;
                    return self.children_ended(id, section, REFUSED, None, &why).await;
                }
            }
        }
        if missing {
            return Ok(());
        }
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        let Some(outcomes) = outcomes else { return Ok(()) };
        let bad = known.iter().filter(|child| !child.state.outcome().is_some_and(Outcome::is_good));
        let bad: Vec<String> =
            bad.map(|child| format!("execution {} ended as {}", child.id, child.state)).collect();
        let outputs = self.outputs(&children).await?;
        let outcome = remit_job::rollup::step(outcomes);
        self.children_ended(id, section, outcome, outputs, &bad.join("; ")).await
    }

    /// What a parent's expressions see of its children: the outputs of their workflow steps by name.
    async fn outputs(&self, children: &[Child]) -> Result<Option<Value>, StoreError> {
        let mut all = Vec::with_capacity(children.len());
        for child in children {
            let document = self.document(child.document).await?;
            let wanted = ResultFilter {
                per_node: Some(false),
                limit: crate::store::MAX_PAGE,
                ..ResultFilter::default()
            };
            let mut outputs = Map::new();
            for result in self.store().results(child.id, wanted).await? {
                let step = usize::try_from(result.ended.step.0).ok().and_then(|at| document.steps.get(at));
                if let (Some(step), Some(output)) = (step, result.ended.output) {
                    outputs.insert(step.name.to_string(), output);
                }
            }
            all.push(outputs);
        }
        Ok(children::outputs(all, children.iter().any(|child| child.many)))
    }

    async fn children_ended(
        &self,
        id: ExecutionId,
        section: SectionNumber,
        outcome: Outcome,
        outputs: Option<Value>,
        message: &str,
    ) -> Result<(), StoreError> {
        self.decide_and_record(|state, drafts| {
            let Some(live) = state.live.get_mut(&id) else { return };
            let ended = live.children_ended(section, (outcome, outputs), message, self.now(), drafts.of(id));
            if let Err(illegal) = ended {
                state.mend(id, drafts, &illegal);
            }
        })
        .await
    }

    /// Nobody waits for these any more.
    async fn call_off(&self, children: Vec<Child>) -> Result<(), StoreError> {
        for child in children.iter().filter(|child| child.state.outcome().is_none()) {
            let cancelled = self.cancel(child.id, CancelMode::Ask, "its parent").await;
            if let Err(ControlError::Store(error)) = cancelled {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl State {
    fn due(&self, live: &Live, number: SectionNumber) -> Due {
        let Some(at) = live.sections.iter().position(|section| section.record.place.number == number) else {
            return Due::Over;
        };
        if live.sections[at].record.state != SectionState::Delegated || live.stop.is_some() {
            return Due::Over;
        }
        if self.depth(live) >= MAX_DEPTH {
            return Due::Wrong(format!("jobs run jobs more than {MAX_DEPTH} deep"));
        }
        match wanted(live, at) {
            Ok(wanted) => {
                let step = StepIndex(live.sections[at].record.place.steps().start);
                Due::Wanted(wanted, live.head.again.clone().map(|again| (again, step)))
            }
            Err(why) => Due::Wrong(why),
        }
    }

    fn depth(&self, live: &Live) -> usize {
        let above = |live: &&Live| self.live.get(&live.head.parent?.execution);
        std::iter::successors(Some(live), above).take(MAX_DEPTH + 1).count()
    }
}

/// The executions that a section wants.
fn wanted(live: &Live, at: usize) -> Result<Vec<Trigger>, String> {
    let Some(step) = live.step(at) else { return Ok(Vec::new()) };
    let Action::Job(job) = &step.action else { return Ok(Vec::new()) };
    let section = live.sections[at].record.place.number;
    let many = step.for_each.is_some();
    let children = (0_u32..).zip(children::wanted(step, &live.scope())?);
    children
        .map(|(item, one)| child(live, job, one, Parent { execution: live.id, section, item, many }))
        .collect()
}

fn child(live: &Live, job: &JobAction, wanted: children::Wanted, parent: Parent) -> Result<Trigger, String> {
    let mut options = std::collections::BTreeMap::new();
    for (name, value) in wanted.with {
        options.insert(OptionName::new(name).map_err(|error| format!("with: {error}"))?, value);
    }
    Ok(Trigger {
        nodes: wanted.nodes,
        runner_tags: job.tags.clone(),
        origin: Origin::Parent { execution: parent.execution, section: parent.section },
        parent: Some(parent),
        ..Trigger::of(live.head.project.clone(), job.job.clone(), options, live.head.started_by.clone())
    })
}
