-- The record of who did what becomes a trail: each entry is also a line that is linked to the one before.
alter table audit add column line text;

-- Its end: one row.
create table audit_head (
  id      integer primary key check (id = 0),
  entries integer not null,
  digest  blob not null
) strict;

-- The newest signed end of each runner's own record, under the key that signed it, and one that did not fit to it.
create table runner_trail (
  runner  blob not null,
  key     blob not null,
  entries integer not null,
  digest  blob not null,
  note    text not null,
  at      integer not null,
  against text,
  primary key (runner, key)
) strict, without rowid;
