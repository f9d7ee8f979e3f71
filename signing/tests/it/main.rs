//! What this room promises, from outside: the profile's negative cases, and properties.

#[cfg(test)]
mod byte;
#[cfg(test)]
mod component;
#[cfg(test)]
mod http;
#[cfg(test)]
mod job;
#[cfg(test)]
mod log;
#[cfg(test)]
mod note;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod panic;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod verdict;
