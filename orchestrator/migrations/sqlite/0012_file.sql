-- A file that was given for options of jobs.
create table file (
  project text not null,
  digest  blob not null,
  length  integer not null,
  at      integer not null,
  primary key (project, digest)
) strict, without rowid;
