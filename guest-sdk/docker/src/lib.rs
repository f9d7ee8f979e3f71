//! What the built-in Docker components share: the endpoint, the version of the API, streams of output, and the words of errors,
//! after the [Docker Engine API](https://docs.docker.com/reference/api/engine/).
//!
//! *Must not know:* where the daemon's socket is; the runner's owner names it as the endpoint `docker`.

use std::time::Duration;

use remit_sdk::{
    Context, Fail, Refusal,
    http::{self, Request, Response, Url},
};
use serde::Deserialize;

mod stream;
pub mod time;

pub use stream::{Demux, Source};

/// The daemon, by the name that its owner gave to its socket.
pub const ENDPOINT: &str = "http://docker.endpoint.alt";
/// The versions of the API that the components speak, the newest first. Each stands in their manifests: what is asked for is
/// named in full.
pub const VERSIONS: [(u32, u32); 2] = [(1, 44), (1, 41)];
/// Largest answer that is held.
const MAX_ANSWER: usize = 32 << 20;

/// A daemon with which a version of the API was agreed on.
#[derive(Debug, Clone)]
pub struct Engine {
    base: Url,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    api_version: String,
    /// Absent in daemons from before 2016.
    #[serde(rename = "MinAPIVersion", default)]
    min_api_version: String,
}

impl Engine {
    /// Asks the daemon which versions it speaks, and takes the newest that these components speak too.
    ///
    /// # Errors
    /// The daemon's; no version in common.
    pub fn agree() -> Result<Self, Fail> {
        let base = http::url(ENDPOINT)?;
        let version: Version = send(http::get(base.segment("version")))?.json()?;
        let range = (number(&version.min_api_version).unwrap_or((1, 0)), number(&version.api_version));
        let (least, Some(most)) = range else {
            return Err(Fail::new(format!("the daemon's version is {:?}", version.api_version)));
        };
        let agreed = VERSIONS.into_iter().find(|own| (least..=most).contains(own));
        let Some((major, minor)) = agreed else {
            let own: Vec<_> = VERSIONS.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
            return Err(Fail::new(format!(
                "the daemon speaks versions {}.{} to {} of its API, this step {}",
                least.0,
                least.1,
                version.api_version,
                own.join(" and ")
            )));
        };
        Ok(Self { base: base.segment(format!("v{major}.{minor}")) })
    }

    /// The address of what these segments name.
    pub fn at(&self, segments: &[&str]) -> Url {
        segments.iter().fold(self.base.clone(), |url, segment| url.segment(segment))
    }
}

/// `1.41` as numbers, which are compared one by one.
fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Sends a request; an error of the daemon is given in its own words.
///
/// # Errors
/// What kept the request from being sent or answered; an answer of 400 or more, with the detail `status`.
pub fn send(request: Request) -> Result<Response, Fail> {
    match ask(request)? {
        Asked::Answered(answer) => Ok(answer),
        Asked::Refused(status, fail) => Err(fail.with("status", status)),
    }
}

/// Sends a request that the daemon may keep waiting, for so long at most; none if it did. A run that was cancelled ends here.
///
/// # Errors
/// As [`send`].
pub fn patiently(context: &Context, request: Request, at_most: Duration) -> Result<Option<Response>, Fail> {
    context.check_cancelled()?;
    let before = context.remaining();
    match request.timeout(at_most).max_body(MAX_ANSWER).send() {
        // The interface has one word for all that breaks off; what it took says which it was.
        Err(http::Error::Refused { refusal: Refusal::Failed(_), .. })
            if before.saturating_sub(context.remaining()) >= at_most =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
        Ok(answer) => match judged(answer) {
            Asked::Answered(answer) => Ok(Some(answer)),
            Asked::Refused(status, fail) => Err(fail.with("status", status)),
        },
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Asked {
    /// It was done.
    Answered(Response),
    /// An answer of 400 or more: the status, and the daemon's words.
    Refused(u16, Fail),
}

/// Sends a request whose refusal is of use.
///
/// # Errors
/// What kept it from being sent or answered.
pub fn ask(request: Request) -> Result<Asked, Fail> {
    Ok(judged(request.max_body(MAX_ANSWER).send()?))
}

fn judged(mut answer: Response) -> Asked {
    #[derive(Default, Deserialize)]
    struct Words {
        #[serde(default)]
        message: String,
    }
    let status = answer.status();
    if status < 400 {
        return Asked::Answered(answer);
    }
    let mut body = Vec::new();
    while body.len() < 64 << 10 {
        match answer.chunk() {
            Ok(Some(bytes)) => body.extend(bytes),
            Ok(None) | Err(_) => break,
        }
    }
    let Words { message } = serde_json::from_slice(&body).unwrap_or_default();
    let text = if message.is_empty() { String::from_utf8_lossy(&body).into_owned() } else { message };
    let text: String = text.trim().chars().take(500).collect();
    Asked::Refused(status, Fail::new(format!("the daemon refuses: {text}")))
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};
    use serde_json::json;

    use super::*;

    fn version(least: &str, most: &str) -> Answer {
        Answer::json(&json!({"Version": "x", "ApiVersion": most, "MinAPIVersion": least}))
    }

    #[test]
    fn the_newest_version_in_common_is_spoken() {
        fn check(least: &str, most: &str, expect: Result<&str, &str>) {
            let fake = Fake::new().http("GET", &format!("{ENDPOINT}/version"), version(least, most));
            let found = fake.run(|_| Engine::agree().map(|engine| engine.at(&["info"]).to_string())).result;
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, format!("{ENDPOINT}{expect}")),
                (Err(fail), Err(part)) => assert!(fail.message().contains(part), "{fail}"),
                (found, _) => panic!("{found:?}"),
            }
        }
        check("1.12", "1.41", Ok("/v1.41/info"));
        check("1.24", "1.43", Ok("/v1.41/info"));
        check("1.24", "1.44", Ok("/v1.44/info"));
        check("1.44", "1.52", Ok("/v1.44/info"));
        check("", "1.41", Ok("/v1.41/info"));
        check("1.24", "1.9", Err("speaks versions 1.24 to 1.9 of its API, this step 1.44 and 1.41"));
        check("1.50", "1.60", Err("speaks versions 1.50 to 1.60"));
        check("1.24", "newest", Err("the daemon's version is \"newest\""));
    }

    #[test]
    fn errors_have_the_daemons_words() {
        fn check(answer: Answer, expect: &str) {
            let run = Fake::new().http("GET", ENDPOINT, answer).run(|_| send(http::get(ENDPOINT)).map(drop));
            assert_eq!(run.result.unwrap_err().to_string(), expect);
        }
        let words = json!({"message": "No such container: web"});
        check(
            Answer::status(404).body(words.to_string()),
            "the daemon refuses: No such container: web (status = 404)",
        );
        check(Answer::status(500).body("broken\n"), "the daemon refuses: broken (status = 500)");
    }
}
