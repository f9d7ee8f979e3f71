-- What reviewers say of releases: whole notes, each with the bytes that it is about and those that it began from.
create table verdict (
  number    integer primary key,
  digest    blob not null unique, -- of the whole note
  component blob not null,
  since     blob,
  pass      integer not null,
  note      text not null,
  published integer not null,
  publisher text not null
) strict;
create index verdict_component on verdict (component);
