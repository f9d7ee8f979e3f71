-- What was typed for an execution, sealed to the runners that it may go to. It is forgotten when the execution ends.
create table sealed (
  execution blob not null,
  number    integer not null,
  body      text not null,
  primary key (execution, number)
) strict, without rowid;

-- The note on the key to which secrets for a runner are sealed.
alter table runner add column sealing text;
