-- Executions after which their job is to be tried again: written with their end, taken with the next one's making.
create table retry (
  execution blob primary key,
  due       integer not null
) strict, without rowid;
