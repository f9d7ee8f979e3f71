-- Gates: who has agreed. The note is the approver's own, for runners that want to see it.
create table approval (
  execution blob not null,
  section   integer not null,
  "by"      text not null,
  at        integer not null,
  note      text,
  primary key (execution, section, "by")
) strict, without rowid;

-- What a runner signed about the end of an attempt, as JSON.
alter table attempt add column result text;

-- The section of another execution for which one was begun, and the item of its list.
alter table execution add column parent blob;
alter table execution add column parent_section integer;
alter table execution add column parent_item integer;
create unique index execution_by_parent on execution (parent, parent_section, parent_item) where parent is not null;
