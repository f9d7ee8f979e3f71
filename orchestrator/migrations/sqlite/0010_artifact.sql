-- Bytes that a runner has brought for an attempt: only these may stand in its reports.
create table upload (
  attempt   blob not null,
  digest    blob not null,
  length    integer not null,
  project   text not null,
  at        integer not null,
  primary key (attempt, digest)
) strict, without rowid;
create index upload_project on upload (project);

-- A file that a step kept, on one node (-1: it has none).
create table artifact (
  execution blob not null,
  step      integer not null,
  node      integer not null,
  name      text not null,
  form      text not null,
  digest    blob not null,
  length    integer not null,
  project   text not null,
  at        integer not null,
  primary key (execution, step, node, name)
) strict, without rowid;
create index artifact_project on artifact (project);
