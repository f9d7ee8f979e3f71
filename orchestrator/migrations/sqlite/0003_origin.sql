-- What began an execution.
alter table execution add column origin text not null default '{"kind":"operator"}';
