//! `remit schedule`.

use clap::Subcommand;
use remit_job::schedule::{Cron, Zone};
use remit_protocol::{
    JobName, ScheduleName, Timestamp,
    operator::{Page, ScheduleView, path},
};

use super::{nodes::query, note::now};
use crate::{
    connection::{Connection, Target},
    failure::{Failure, Result},
    output::{Output, table},
};

#[derive(Subcommand)]
pub(crate) enum Schedule {
    /// List the schedules of the project's jobs with their next times.
    List {
        /// Only of this job.
        #[arg(long)]
        job: Option<JobName>,
        /// How many times of each.
        #[arg(long, default_value_t = 1)]
        fires: u32,
    },
    /// Let a schedule fire again, from now on.
    Enable {
        /// The job.
        job: JobName,
        /// The schedule.
        name: ScheduleName,
    },
    /// Stop a schedule from firing; its times meanwhile are left out.
    Disable {
        /// The job.
        job: JobName,
        /// The schedule.
        name: ScheduleName,
    },
    /// Show at which times a cron expression fires, without asking anybody.
    Preview {
        /// Minute, hour, day, month, weekday; or with seconds before, or with years behind.
        cron: Cron,
        /// The time zone.
        #[arg(long, default_value = "UTC")]
        zone: Zone,
        /// Times after this one, in UTC; absent: from now on.
        #[arg(long)]
        from: Option<Timestamp>,
        /// How many times.
        #[arg(long, default_value_t = 5)]
        fires: u32,
    },
}

impl Schedule {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        match self {
            Self::List { job, fires } => {
                let connection = Connection::open(target)?;
                let fires = fires.to_string();
                let query = query(&[("job", job.as_ref().map(JobName::as_str)), ("fires", Some(&fires))]);
                let address = path::fill(path::SCHEDULES, &[&connection.project()?]);
                let page: Page<ScheduleView> = connection.all(&format!("{address}{query}")).await?;
                output.print(&page, |page| {
                    let columns = ["JOB", "SCHEDULE", "CRON", "ZONE", "MISSED", "NEXT", "PROBLEM"];
                    table(&columns, &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Enable { job, name } => {
                switch(&Connection::open(target)?, path::SCHEDULE_ENABLE, (job, name), output).await?;
            }
            Self::Disable { job, name } => {
                switch(&Connection::open(target)?, path::SCHEDULE_DISABLE, (job, name), output).await?;
            }
            Self::Preview { cron, zone, from, fires } => preview(&cron, &zone, from, fires, output)?,
        }
        Ok(())
    }
}

fn row(view: &ScheduleView) -> Vec<String> {
    let zone = Zone::new(&view.zone).unwrap_or_default();
    let next: Vec<String> = view.next.iter().map(|at| zone.shown(*at)).collect();
    let next = match (view.enabled, next.is_empty()) {
        (false, _) => "disabled".to_owned(),
        (true, true) => "never again".to_owned(),
        (true, false) => next.join(" "),
    };
    let missed = view.most.map_or_else(|| view.missed.clone(), |most| format!("{} {most}", view.missed));
    vec![
        view.job.to_string(),
        view.name.to_string(),
        view.cron.clone(),
        view.zone.clone(),
        missed,
        next,
        view.error.clone().unwrap_or_default(),
    ]
}

async fn switch(
    connection: &Connection,
    address: &str,
    (job, name): (JobName, ScheduleName),
    output: Output,
) -> Result<()> {
    let address = path::fill(address, &[&connection.project()?, &job, &name]);
    let view: ScheduleView = connection.post(&address, &serde_json::json!({})).await?;
    output.print(&view, |view| {
        let state = if view.enabled { "fires" } else { "does not fire" };
        let next = view.next.first().map(|at| format!("; next {}", at.to_seconds_text()));
        format!("schedule {} of job {} {state}{}", view.name, view.job, next.unwrap_or_default())
    });
    Ok(())
}

fn preview(cron: &Cron, zone: &Zone, from: Option<Timestamp>, fires: u32, output: Output) -> Result<()> {
    let from = from.unwrap_or_else(now);
    let fires = usize::try_from(fires).unwrap_or(usize::MAX);
    let next: Vec<Timestamp> = std::iter::successors(cron.next(zone, from), |at| cron.next(zone, *at))
        .take(fires.min(1000))
        .collect();
    if next.is_empty() {
        return Err(Failure::input(format_args!(
            "{cron:?} does not fire after {from}",
            cron = cron.as_str()
        )));
    }
    let found = serde_json::json!({ "cron": cron, "zone": zone, "next": next });
    output.print(&found, |_| next.iter().map(|at| zone.shown(*at)).collect::<Vec<_>>().join("\n"));
    Ok(())
}
