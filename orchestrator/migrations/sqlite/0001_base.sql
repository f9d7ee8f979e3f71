-- Times are milliseconds since 1970; ids are 16 bytes (ULID), digests 32; sets and small documents are JSON text.

create table project (
  name        text primary key,
  description text not null,
  created     integer not null
) strict, without rowid;

create table job (
  project  text not null,
  name     text not null,
  revision integer not null,
  primary key (project, name)
) strict, without rowid;

-- A revision is written once and never changed.
create table job_revision (
  project     text not null,
  job         text not null,
  revision    integer not null,
  document    blob not null,
  length      integer not null,
  folder      text not null,
  description text not null,
  saved       integer not null,
  saved_by    text not null,
  -- What is long comes last: a list of jobs does not read it.
  note        text,
  source      text not null,
  unique (project, job, revision)
) strict;

-- A version is never moved to another digest.
create table component (
  name      text not null,
  version   text not null,
  digest    blob not null,
  length    integer not null,
  kind      text not null,
  manifest  text not null,
  note      text not null,
  proof     text,
  published integer not null,
  publisher text not null,
  yanked    integer,
  unique (name, version)
) strict;
create index component_digest on component (digest);

create table runner (
  id       blob primary key,
  name     text not null unique,
  local    integer not null,
  tags     text not null,
  projects text not null,
  description text not null,
  enabled  integer not null,
  created  integer not null,
  key      blob,
  enrolled integer,
  session  integer not null default 0,
  confirmed integer default 0, -- the newest session that was used; null: any is taken next
  locked   integer,
  seen     integer,
  version  text not null default '',
  hostname text not null default '',
  features text not null default '[]',
  slots    integer not null default 0
) strict, without rowid;

create table ticket (
  id      blob primary key,
  runner  blob not null,
  key     blob not null,
  expires integer not null,
  used    integer
) strict, without rowid;
create index ticket_runner on ticket (runner);

create table token (
  id        blob primary key,
  name      text not null,
  hash      blob not null unique,
  access    text not null,
  created   integer not null,
  created_by text not null,
  expires   integer,
  revoked   integer,
  last_used integer
) strict, without rowid;

create table source (
  project   text not null,
  name      text not null,
  position  integer not null,
  kind      text not null,
  config    text not null,
  document  blob,
  length    integer,
  nodes     blob,
  nodes_length integer,
  count     integer not null default 0,
  every     integer,
  refreshed integer,
  execution blob,
  error     text,
  primary key (project, name)
) strict, without rowid;

create table execution (
  id         blob primary key,
  project    text not null,
  job        text not null,
  purpose    text not null,
  head       text not null,
  state      text not null,
  version    integer not null,
  last_event integer not null,
  created    integer not null,
  began      integer,
  ended      integer,
  job_revision integer not null,
  started_by text not null,
  stop       text
) strict, without rowid;
create index execution_project on execution (project, id);
create index execution_job on execution (project, job, id);
create index execution_open on execution (id) where ended is null;

create table idempotency (
  project   text not null,
  job       text not null,
  key       text not null,
  request   blob not null,
  execution blob not null,
  primary key (project, job, key)
) strict, without rowid;

create table section (
  execution blob not null,
  number    integer not null,
  body      text not null,
  state     text not null,
  epoch     integer not null,
  losses    integer not null,
  not_before integer,
  primary key (execution, number)
) strict, without rowid;

create table attempt (
  id        blob primary key,
  execution blob not null,
  section   integer not null,
  epoch     integer not null,
  runner    blob not null,
  session   integer not null,
  ranges    text not null,
  state     text not null,
  nonce     integer,
  events    integer not null,
  leased    integer not null,
  began     integer,
  ended     integer,
  message   text not null,
  unique (execution, section, epoch)
) strict, without rowid;

-- Which nodes an attempt was about to begin: one row for each such event.
create table dispatch (
  attempt blob not null,
  number  integer not null,
  nodes   text not null,
  primary key (attempt, number)
) strict, without rowid;

-- How a step ended, on one node (-1: it has none).
create table result (
  execution blob not null,
  step      integer not null,
  node      integer not null,
  attempt   blob,
  outcome   text not null,
  tries     integer not null,
  started   integer not null,
  ended     integer not null,
  output    text,
  message   text not null,
  usage     text,
  remit     blob,
  primary key (execution, node, step)
) strict, without rowid;

-- What a step came to over all its nodes.
create table step (
  execution blob not null,
  step      integer not null,
  outcome   text not null,
  primary key (execution, step)
) strict, without rowid;

-- The events of an execution, one row for each commit; the last event's number is the key.
create table feed (
  execution blob not null,
  last      integer not null,
  at        integer not null,
  events    text not null,
  primary key (execution, last)
) strict, without rowid;

-- What came from attempts that no longer counted.
create table evidence (
  attempt blob not null,
  number  integer not null,
  at      integer not null,
  event   text not null,
  primary key (attempt, number)
) strict, without rowid;

create table audit (
  number integer primary key,
  at     integer not null,
  who    text not null,
  action text not null,
  target text not null,
  detail text not null
) strict;
