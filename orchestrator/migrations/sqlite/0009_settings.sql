-- What the project's administrators decided, as JSON.
alter table project add column settings text not null default '{}';
