-- What a list of jobs shows stands with the job as well as with its revision: a list reads one table, in its order.
alter table job rename to job_before;
create table job (
  project     text not null,
  name        text not null,
  revision    integer not null,
  folder      text not null,
  description text not null,
  saved       integer not null,
  saved_by    text not null,
  primary key (project, name)
) strict, without rowid;
insert into job select project, name, revision, folder, description, saved, saved_by
  from job_before join job_revision using (project, revision) where job = name;
drop table job_before;
