-- Webhooks that come in. The secrets are sealed: `previous` is good until `previous_until`.
create table hook (
  project    text not null,
  name       text not null,
  job        text not null,
  mapping    text not null,
  secret     blob not null,
  previous   blob,
  previous_until integer,
  created    integer not null,
  created_by text not null,
  rotated    integer not null,
  primary key (project, name)
) strict, without rowid;

-- Deliveries that were taken: each once, as long as its time could still be believed.
create table delivery (
  project   text not null,
  hook      text not null,
  id        text not null,
  sent      integer not null,
  execution blob not null,
  primary key (project, hook, id)
) strict, without rowid;
create index delivery_sent on delivery (sent);

-- Where executions are made known. What a webhook is signed with is sealed.
create table channel (
  project    text not null,
  name       text not null,
  definition text not null,
  secret     blob,
  created    integer not null,
  created_by text not null,
  primary key (project, name)
) strict, without rowid;

-- What is to be made known, and what was: written in the transaction of what it is about.
create table notice (
  number    integer primary key,
  project   text not null,
  job       text not null,
  execution blob not null,
  occasion  text not null,
  part      text not null,
  entry     integer not null,
  target    text not null,
  at        integer not null,
  tries     integer not null default 0,
  next      integer,
  state     text not null,
  error     text,
  ended     integer,
  unique (execution, occasion, part, entry)
) strict;
create index notice_next on notice (next) where state = 'waiting';
create index notice_project on notice (project, number);
