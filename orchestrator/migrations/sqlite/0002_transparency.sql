-- The transparency log. A leaf is a whole note, `hash` its leaf hash.
create table leaf (
  number integer primary key,
  hash   blob not null unique,
  note   blob not null
) strict;

-- The hashes of a tile one after the other; only the last of each level grows.
create table tile (
  level  integer not null,
  number integer not null,
  hashes blob not null,
  primary key (level, number)
) strict, without rowid;

-- The newest head that was signed: one row.
create table log_head (
  id         integer primary key check (id = 0),
  size       integer not null,
  root       blob not null,
  checkpoint text not null
) strict;

-- Proofs are made of the tiles, under the newest head, whenever they are asked for.
alter table component drop column proof;
