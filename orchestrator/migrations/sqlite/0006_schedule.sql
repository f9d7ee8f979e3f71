-- The schedules of the newest revision of each job. Whatever lies at or before `done` was decided and is never decided
-- again: it moves forward in the transaction that makes the execution.
create table schedule (
  project    text not null,
  job        text not null,
  name       text not null,
  definition text not null,
  enabled    integer not null default 1,
  done       integer not null,
  next       integer,
  execution  blob,
  error      text,
  primary key (project, job, name)
) strict, without rowid;
create index schedule_next on schedule (next) where enabled = 1 and next is not null;
