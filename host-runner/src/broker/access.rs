//! The way from the component's half of a run to its broker: beside it, or in another process.

use async_trait::async_trait;
use remit_protocol::Outcome;
use serde::{Deserialize, Serialize};

use super::{Answer, Broker, Call, Handle};
use crate::{
    capability::{Fault, http::WasiHttpHooks, types::CapabilityError},
    sandbox::{HostFault, OverLimit},
};

/// A broker in another process.
#[async_trait]
pub(crate) trait Ask: Send {
    /// Hands a call on and waits for its answer.
    async fn ask(&mut self, call: Call) -> Result<Answer, Fault>;
    /// Lets go of something that is open.
    fn release(&mut self, handle: Handle);
    /// The way out for requests.
    fn way_out(&mut self) -> Box<dyn WasiHttpHooks>;
}

/// Where the broker is.
pub(crate) enum Access {
    /// In this process.
    Here(Box<Broker>),
    /// In another one.
    There(Box<dyn Ask>),
}

impl Access {
    pub(crate) async fn ask(&mut self, call: Call) -> Result<Answer, Fault> {
        match self {
            Self::Here(broker) => broker.ask(call).await,
            Self::There(line) => line.ask(call).await,
        }
    }

    pub(crate) fn release(&mut self, handle: Handle) {
        match self {
            Self::Here(broker) => broker.release(handle),
            Self::There(line) => line.release(handle),
        }
    }

    pub(crate) fn way_out(&mut self) -> Box<dyn WasiHttpHooks> {
        match self {
            Self::Here(broker) => Box::new(broker.door()),
            Self::There(line) => line.way_out(),
        }
    }
}

/// Why a call was not done, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refused {
    Denied(String),
    OverLimit(String),
    Cancelled,
    Failed(String),
    /// The run ends, and how.
    Halt(Outcome, String),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Answer(CapabilityError::Denied(what)) => Self::Denied(what),
            Fault::Answer(CapabilityError::OverLimit(which)) => Self::OverLimit(which),
            Fault::Answer(CapabilityError::Cancelled) => Self::Cancelled,
            Fault::Answer(CapabilityError::Failed(why)) => Self::Failed(why),
            Fault::Halt(error) => match error.downcast_ref() {
                Some(OverLimit(limit)) => Self::Halt(Outcome::OverLimit(*limit), String::new()),
                None => Self::Halt(Outcome::HostFault, error.to_string()),
            },
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Answer(match refused {
            Refused::Denied(what) => CapabilityError::Denied(what),
            Refused::OverLimit(which) => CapabilityError::OverLimit(which),
            Refused::Cancelled => CapabilityError::Cancelled,
            Refused::Failed(why) => CapabilityError::Failed(why),
            Refused::Halt(Outcome::OverLimit(limit), _) => return Self::Halt(OverLimit(limit).into()),
            Refused::Halt(_, why) => return Self::Halt(HostFault(why).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::report::Limit;

    use super::*;

    #[test]
    fn a_refusal_is_the_same_on_the_other_side() {
        for refused in [
            Refused::Denied("exec ls".to_owned()),
            Refused::OverLimit("requests".to_owned()),
            Refused::Cancelled,
            Refused::Failed("no such file".to_owned()),
            Refused::Halt(Outcome::OverLimit(Limit::Handles), String::new()),
            Refused::Halt(Outcome::HostFault, "the run speaks of something that is not open".to_owned()),
        ] {
            let text = serde_json::to_string(&refused).unwrap();
            let fault: Fault = serde_json::from_str::<Refused>(&text).unwrap().into();
            assert_eq!(Refused::from(fault), refused, "{text}");
        }
    }
}
