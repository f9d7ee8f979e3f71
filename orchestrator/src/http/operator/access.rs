//! Tokens: made, listed, revoked.

use axum::{Extension, extract::State, http::StatusCode};
use remit_protocol::{
    Span, TokenId,
    operator::{NewToken, Page, Part, TokenCreated, TokenView, path},
};

use super::part;
use crate::http::{
    App,
    auth::{Caller, issue, token_view},
    error::Failure,
    extract::{Asked, Json, Place},
};

/// How long a token is good unless its maker says otherwise.
const GOOD_FOR: Span = Span::from_secs(90 * 86_400);

/// Every token, the newest first.
#[utoipa::path(get, path = path::TOKENS, tag = "tokens", params(Part), responses((status = 200, body = Page<TokenView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<TokenView>>, Failure> {
    let all = app.store.tokens().await?;
    Ok(Json(part(&all, &asked, |token| token.id.to_string(), |token| Ok(token_view(token)))?))
}

/// Makes a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = path::TOKENS, tag = "tokens", request_body = NewToken, responses((status = 201, body = TokenCreated)))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<TokenCreated>), Failure> {
    let expires = app.now().plus(new.expires_in.unwrap_or(GOOD_FOR).duration());
    let created = issue(&app, new.name, new.access, Some(expires), caller.name().as_str()).await?;
    app.audit(caller.name(), "token.create", &created.view.name).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes a token, at once.
#[utoipa::path(delete, path = path::TOKEN, tag = "tokens", params(("token" = TokenId, Path)), responses((status = 204)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(id): Place<TokenId>,
) -> Result<StatusCode, Failure> {
    app.store.revoke_token(id, app.now()).await?;
    app.tokens.forget(id);
    app.audit(caller.name(), "token.revoke", id).await?;
    Ok(StatusCode::NO_CONTENT)
}
