//! API tokens: a hash of each, never the token.

use remit_protocol::{Timestamp, TokenId, TokenName, operator::Access};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What its bearer may do.
    pub access: Access,
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
    /// Its name.
    pub name: TokenName,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What its bearer may do.
    pub access: Access,
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
        name: row::text(row, "name")?,
        hash: row.get("hash")?,
        access: row::json(row, "access")?,
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
                tx.prepare_cached("insert into token values (?, ?, ?, ?, ?, ?, ?, null, null)")?.execute(
                    params![
                        row::key(new.id.to_u128()),
                        new.name.as_str(),
                        new.hash,
                        row::to_json(&new.access)?,
                        new.at.as_millis(),
                        new.by,
                        new.expires.map(Timestamp::as_millis)
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// The token with this id, valid or not.
    pub async fn token(&self, id: TokenId) -> Result<Option<Token>, StoreError> {
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select * from token where id = ?")?
                    .query_row([row::key(id.to_u128())], read);
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
