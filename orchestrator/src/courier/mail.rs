//! Mail, by the SMTP server of the configuration.

use std::{fs, time::Duration};

use anyhow::Context as _;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use remit_protocol::notice::Announcement;
use zeroize::Zeroizing;

use super::Undelivered;
use crate::config::{Smtp, SmtpTls};

/// A text that is no mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mail address")]
pub struct InvalidMail(String);

/// Sends mail.
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// Checks an address.
///
/// # Errors
/// It is none.
pub fn check_address(text: &str) -> Result<(), InvalidMail> {
    address(text).map(|_| ())
}

fn address(text: &str) -> Result<Mailbox, InvalidMail> {
    text.parse().map_err(|_| InvalidMail(text.chars().take(80).collect()))
}

impl Mailer {
    pub(super) fn new(smtp: &Smtp, patience: Duration) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = || -> anyhow::Result<TlsParameters> {
            let mut parameters = TlsParameters::builder(smtp.host.clone());
            if let Some(file) = &smtp.ca {
                let pem = fs::read(file).with_context(|| file.display().to_string())?;
                let certificate = Certificate::from_pem(&pem).with_context(|| file.display().to_string())?;
                parameters = parameters.add_root_certificate(certificate);
            }
            Ok(parameters.build_rustls()?)
        };
        let tls = match smtp.tls {
            SmtpTls::Start => Tls::Required(tls()?),
            SmtpTls::Whole => Tls::Wrapper(tls()?),
            SmtpTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
            .port(smtp.port)
            .timeout(Some(patience))
            .tls(tls);
        if let Some((user, file)) = &smtp.login {
            let password = fs::read_to_string(file).map(Zeroizing::new);
            let password = password.with_context(|| file.display().to_string())?;
            let password = password.trim_end_matches(['\n', '\r']).to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Self { transport: builder.build(), from: address(&smtp.from)? })
    }

    pub(super) async fn send(
        &self,
        to: &[String],
        id: &str,
        message: &Announcement,
    ) -> Result<(), Undelivered> {
        let mail = self.mail(to, id, message).map_err(|error| Undelivered::Never(format!("{error:#}")))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(Undelivered::Never(words(&error))),
            Err(error) => Err(Undelivered::Later(words(&error))),
        }
    }

    fn mail(&self, to: &[String], id: &str, message: &Announcement) -> anyhow::Result<Message> {
        // The same notice has the same id, so that a mail that comes twice is seen to be one.
        let domain = self.from.email.domain();
        let mut builder = Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<{id}.{}@{domain}>", message.project)))
            .subject(format!("[{}] {}", message.project, message.text));
        for one in to {
            builder = builder.to(address(one)?);
        }
        Ok(builder.header(ContentType::TEXT_PLAIN).body(text(message))?)
    }
}

fn words(error: &lettre::transport::smtp::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The text of a mail.
fn text(message: &Announcement) -> String {
    let mut lines = vec![format!("{}.", message.text), String::new()];
    if let Some(execution) = &message.execution {
        lines.push(format!("Execution   {}", execution.id));
        lines.push(format!("Job         {} revision {}", execution.job, execution.revision));
        lines.push(format!("Begun by    {}", execution.started_by));
        lines.push(format!("Made        {}", execution.created.to_seconds_text()));
        if let Some(started) = execution.started {
            lines.push(format!("Began       {}", started.to_seconds_text()));
        }
        if let Some(ended) = execution.ended {
            lines.push(format!("Ended       {}", ended.to_seconds_text()));
        }
        if let Some(outcome) = execution.outcome {
            lines.push(format!("Outcome     {outcome}"));
        }
        lines.extend([
            String::new(),
            format!("remit execution show {}", execution.id),
            execution.url.clone(),
        ]);
    }
    lines.join("\n")
}
