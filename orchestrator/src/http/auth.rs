//! Who calls, and whether they may. Deny by default: every route states a [`Need`], and nothing answers before it is met.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{RawPathParams, Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use remit_protocol::{
    ExecutionId, ProjectName, Timestamp, TokenId, TokenName,
    operator::{Access, InstanceRole, ProjectRole, TokenCreated, TokenText, TokenView},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{App, Services, error::Failure};
use crate::store::{NewToken, Token};

/// How long a token that was found good is not looked up again; revoking one here takes effect at once.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Most tokens that are remembered.
const MOST_REMEMBERED: usize = 10_000;
/// Most executions whose project is remembered.
const MOST_PROJECTS: usize = 100_000;

/// What it takes to call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// A signature over the call with the secret of what the path names: the handler verifies it.
    Signature,
    /// A good token; the handler shows only what its bearer may see.
    Token,
    /// A role in the project that the path names.
    Project(ProjectRole),
    /// A role in the project of the execution that the path names.
    Execution(ProjectRole),
    /// A role in the installation.
    Instance(InstanceRole),
}

/// A bearer whose token is good.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    token: Arc<Token>,
}

fn role(role: ProjectRole) -> &'static str {
    match role {
        ProjectRole::Viewer => "viewer",
        ProjectRole::Operator => "operator",
        ProjectRole::Editor => "editor",
        ProjectRole::Admin => "admin",
    }
}

impl Caller {
    /// The token's name, as the record shows it.
    pub(crate) fn name(&self) -> &TokenName {
        &self.token.name
    }

    /// The token, for its bearer.
    pub(crate) fn view(&self) -> TokenView {
        token_view(&self.token)
    }

    /// Succeeds if the caller has `wanted`, or more, in `project`.
    pub(crate) fn in_project(&self, project: &ProjectName, wanted: ProjectRole) -> Result<(), Failure> {
        let may = match &self.token.access {
            Access::Instance { role } => *role == InstanceRole::Admin,
            Access::Project { project: own, role } => own == project && *role >= wanted,
        };
        if may {
            Ok(())
        } else {
            Err(Failure::denied(&format!("the role {} in the project {project}", role(wanted))))
        }
    }

    /// Succeeds if the caller has `wanted` in the installation.
    pub(crate) fn in_instance(&self, wanted: InstanceRole) -> Result<(), Failure> {
        match &self.token.access {
            Access::Instance { role } if *role == InstanceRole::Admin || *role == wanted => Ok(()),
            _ => {
                let wanted = match wanted {
                    InstanceRole::Admin => "admin",
                    InstanceRole::Publisher => "publisher",
                    InstanceRole::Metrics => "metrics",
                };
                Err(Failure::denied(&format!("the role {wanted} of the installation")))
            }
        }
    }

    /// The only project that the caller may see; `None` means every one.
    ///
    /// # Errors
    /// If the caller may see no project at all.
    pub(crate) fn visible(&self) -> Result<Option<&ProjectName>, Failure> {
        match &self.token.access {
            Access::Project { project, .. } => Ok(Some(project)),
            Access::Instance { role: InstanceRole::Admin } => Ok(None),
            Access::Instance { .. } => Err(Failure::denied("a role in a project")),
        }
    }

    /// The project that a list is limited to, from what is asked and what may be seen.
    pub(crate) fn limited_to(&self, asked: Option<ProjectName>) -> Result<Option<ProjectName>, Failure> {
        if let Some(project) = asked {
            self.in_project(&project, ProjectRole::Viewer)?;
            return Ok(Some(project));
        }
        Ok(self.visible()?.cloned())
    }
}

/// A token as it is listed.
pub(crate) fn token_view(token: &Token) -> TokenView {
    TokenView {
        id: token.id,
        name: token.name.clone(),
        access: token.access.clone(),
        created: token.created,
        created_by: token.created_by.clone(),
        expires: token.expires,
        revoked: token.revoked,
        last_used: token.last_used,
    }
}

/// Makes a token and stores its hash; the text is only in what is given back.
pub(crate) async fn issue(
    app: &Services,
    name: TokenName,
    access: Access,
    expires: Option<Timestamp>,
    by: &str,
) -> Result<TokenCreated, Failure> {
    let now = app.now();
    let secret = Zeroizing::new(app.random::<32>()?);
    let id = TokenId::from_parts(now, app.random_bits()?);
    let text = TokenText::new(id, &secret);
    let new =
        NewToken { id, name, hash: *text.hash().as_bytes(), access, expires, by: by.to_owned(), at: now };
    app.store.create_token(new.clone()).await?;
    let view = TokenView {
        id,
        name: new.name,
        access: new.access,
        created: now,
        created_by: new.by,
        expires,
        revoked: None,
        last_used: None,
    };
    Ok(TokenCreated { token: text.into_shown(), view })
}

/// Tokens that were found good, and what they were used for since the store was last told.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<TokenId, (Arc<Token>, Timestamp)>>,
    used: Mutex<HashMap<TokenId, Timestamp>>,
    projects: Mutex<HashMap<ExecutionId, ProjectName>>,
}

impl Tokens {
    fn known(&self, text: &TokenText, now: Timestamp) -> Option<Arc<Token>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, since) = known.get(&text.id())?;
        let same: bool = token.hash.ct_eq(text.hash().as_bytes()).into();
        (same && now.since(*since) < REMEMBERED).then(|| Arc::clone(token))
    }

    fn remember(&self, token: &Arc<Token>, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(token.id, (Arc::clone(token), now));
    }

    /// Looks a token up again the next time: it was revoked.
    pub(crate) fn forget(&self, id: TokenId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// When which tokens were used since this was last asked.
    pub(crate) fn take_used(&self) -> Vec<(TokenId, Timestamp)> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    fn used(&self, id: TokenId, now: Timestamp) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(id, now);
    }

    /// Remembers of which project an execution is; it never changes.
    pub(crate) fn execution_of(&self, execution: ExecutionId, project: &ProjectName) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        if projects.len() >= MOST_PROJECTS {
            projects.clear();
        }
        projects.insert(execution, project.clone());
    }
}

fn bearer(headers: &HeaderMap) -> Result<TokenText, Failure> {
    let remedy = "Send `Authorization: Bearer remit_…`.";
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Failure::unauthenticated("This call takes a token.", remedy))?;
    let text = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, text) = text.ok_or_else(|| Failure::unauthenticated("This is no bearer token.", remedy))?;
    TokenText::parse(text).map_err(|error| Failure::unauthenticated(format!("This is {error}."), remedy))
}

/// The bearer of the request's token, if it is good.
async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Failure> {
    let text = bearer(headers)?;
    let now = app.now();
    let token = match app.tokens.known(&text, now) {
        Some(token) => token,
        None => {
            let unknown = || {
                Failure::unauthenticated("This token is not known here.", "Ask an administrator for a token.")
            };
            let found = app.store.token(text.id()).await?.ok_or_else(unknown)?;
            let same: bool = found.hash.ct_eq(text.hash().as_bytes()).into();
            if !same {
                return Err(unknown());
            }
            let found = Arc::new(found);
            app.tokens.remember(&found, now);
            found
        }
    };
    if token.revoked.is_some() {
        return Err(Failure::unauthenticated(
            "This token was revoked.",
            "Ask an administrator for a new one.",
        ));
    }
    if !token.is_valid(now) {
        return Err(Failure::unauthenticated(
            "This token has expired.",
            "Ask an administrator for a new one.",
        ));
    }
    app.tokens.used(token.id, now);
    Ok(Caller { token })
}

/// The project of an execution.
async fn project_of(app: &App, execution: ExecutionId) -> Result<ProjectName, Failure> {
    let known = {
        let projects = app.tokens.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.get(&execution).cloned()
    };
    if let Some(project) = known {
        return Ok(project);
    }
    let found = app.store.execution(execution).await?;
    let found = found.ok_or_else(|| Failure::not_found("execution", execution))?;
    app.tokens.execution_of(execution, &found.head.project);
    Ok(found.head.project)
}

fn place<T: std::str::FromStr<Err: std::fmt::Display>>(
    places: &RawPathParams,
    name: &str,
) -> Result<T, Failure> {
    let (_, value) = places
        .iter()
        .find(|(key, _)| *key == name)
        .ok_or_else(|| Failure::internal(format!("a route needs {name} and does not have it")))?;
    value.parse().map_err(|error| Failure::invalid(format!("The address is not usable: {error}."), ""))
}

async fn check(
    app: &App,
    need: Need,
    places: &RawPathParams,
    headers: &HeaderMap,
) -> Result<Option<Caller>, Failure> {
    if matches!(need, Need::Nothing | Need::Signature) {
        return Ok(None);
    }
    let caller = caller(app, headers).await?;
    match need {
        Need::Nothing | Need::Signature | Need::Token => {}
        Need::Project(wanted) => caller.in_project(&place(places, "project")?, wanted)?,
        Need::Instance(wanted) => caller.in_instance(wanted)?,
        Need::Execution(wanted) => {
            let execution = place(places, "execution")?;
            let project = project_of(app, execution).await?;
            // Whoever may not see it does not learn that it is there.
            caller
                .in_project(&project, ProjectRole::Viewer)
                .map_err(|_| Failure::not_found("execution", execution))?;
            caller.in_project(&project, wanted)?;
        }
    }
    Ok(Some(caller))
}

/// Meets a route's need, or answers in its place.
pub(crate) async fn authorize(
    State((app, need)): State<(App, Need)>,
    places: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    match check(&app, need, &places, request.headers()).await {
        Ok(None) => next.run(request).await,
        Ok(Some(caller)) => {
            app.metrics.calls.add(1);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => {
            app.metrics.calls_denied.add(1);
            failure.into_response()
        }
    }
}
