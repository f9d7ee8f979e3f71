//! API tokens: a hash of each, never the token.

use std::{fmt, str::FromStr};

use remit_protocol::{ProjectName, Timestamp, TokenId};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, row};

/// What the bearer of a token may do, in its project or, without one, in the whole instance.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See.
    Viewer,
    /// And run jobs.
    Operator,
    /// And change jobs and nodes.
    Editor,
    /// And everything else.
    Admin,
    /// Only publish components.
    Publisher,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Operator, Self::Editor, Self::Admin, Self::Publisher];

    /// The role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Editor => "editor",
            Self::Admin => "admin",
            Self::Publisher => "publisher",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a role: expected viewer, operator, editor, admin or publisher")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// The beginning of its text, by which people recognise it.
    pub prefix: String,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What its bearer may do,
    pub role: Role,
    /// and in which project; none means the whole instance.
    pub project: Option<ProjectName>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Who makes it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// The beginning of its text.
    pub prefix: String,
    /// What its bearer may do,
    pub role: Role,
    /// and in which project; none means the whole instance.
    pub project: Option<ProjectName>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was taken back.
    pub revoked: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
}

impl Token {
    /// True if it may be used at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row::id(row, "id", TokenId::from_u128)?,
        name: row.get("name")?,
        prefix: row.get("prefix")?,
        role: row::text(row, "role")?,
        project: row::maybe_text(row, "project")?,
        created: row::time(row, "created")?,
        created_by: row.get("created_by")?,
        expires: row::maybe_time(row, "expires")?,
        revoked: row::maybe_time(row, "revoked")?,
        last_used: row::maybe_time(row, "last_used")?,
    })
}

impl Store {
    /// Makes a token.
    pub async fn create_token(&self, new: NewToken) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                tx.prepare_cached("insert into token values (?, ?, ?, ?, ?, ?, ?, ?, ?, null, null)")?
                    .execute(params![
                        row::key(new.id.to_u128()),
                        new.name,
                        new.prefix,
                        new.hash,
                        new.role.as_str(),
                        new.project.as_ref().map(ProjectName::as_str),
                        new.at.as_millis(),
                        new.by,
                        new.expires.map(Timestamp::as_millis)
                    ])?;
                Ok(())
            })
            .await
    }

    /// The token whose text has this hash, valid or not.
    pub async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<Token>, StoreError> {
        self.db
            .read(move |db| {
                let found = db.prepare_cached("select * from token where hash = ?")?.query_row([hash], read);
                Ok(found.optional()?)
            })
            .await
    }

    /// Every token, the newest first.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.db
            .read(|db| {
                let mut query = db.prepare_cached("select * from token order by id desc")?;
                let all = query.query_map([], read)?.collect::<Result<_, _>>()?;
                Ok(all)
            })
            .await
    }

    /// Takes a token back; taking it back twice changes nothing.
    pub async fn revoke_token(&self, id: TokenId, at: Timestamp) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let found = tx
                    .prepare_cached("update token set revoked = coalesce(revoked, ?) where id = ?")?
                    .execute(params![at.as_millis(), row::key(id.to_u128())])?;
                if found == 1 { Ok(()) } else { Err(StoreError::not_found("token", id)) }
            })
            .await
    }

    /// Records that tokens were used; callers gather and tell at most once a minute.
    pub async fn tokens_used(&self, used: Vec<(TokenId, Timestamp)>) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let mut update = tx.prepare_cached(
                    "update token set last_used = ?1 where id = ?2 and (last_used is null or last_used < ?1)",
                )?;
                for (id, at) in used {
                    update.execute(params![at.as_millis(), row::key(id.to_u128())])?;
                }
                Ok(())
            })
            .await
    }
}
