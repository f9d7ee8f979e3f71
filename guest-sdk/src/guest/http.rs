//! Requests over `wasi:http`.

use super::bindings::imports::wasi::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
            RequestOptions, Scheme, http_error_code,
        },
    },
    io::streams::{InputStream, StreamError},
};
use crate::{
    Refusal,
    http::{Head, Request},
};

/// A body that is being read. The fields are dropped in their order: a stream before the resource that it belongs to.
#[derive(Debug)]
pub(crate) struct Body {
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

/// Most bytes of one read.
const READ: u64 = 64 << 10;
/// The most that the interface takes in one blocking write.
const WRITE: usize = 4096;

pub(crate) fn http(request: Request) -> Result<Head, Refusal> {
    let mut headers: Vec<(String, Vec<u8>)> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    // The length is known. Without it even no body is sent in pieces, which some servers take for one.
    let has_length = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let may_have_none = request.body.is_empty() && matches!(request.method.as_str(), "GET" | "HEAD");
    if !has_length && !may_have_none {
        headers.push(("content-length".to_owned(), request.body.len().to_string().into_bytes()));
    }
    let headers = Fields::from_list(&headers).map_err(|error| failed(format!("a header: {error}")))?;
    let outgoing = OutgoingRequest::new(headers);
    let unusable = |what: &str| failed(format!("the {what} cannot be sent"));
    outgoing.set_method(&method(&request.method)).map_err(|()| unusable("method"))?;
    let scheme = if request.url.is_https() { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| unusable("scheme"))?;
    outgoing.set_authority(Some(request.url.authority())).map_err(|()| unusable("host"))?;
    let path = request.url.path_and_query();
    outgoing.set_path_with_query(Some(&path)).map_err(|()| unusable("path"))?;
    let body = outgoing.body().map_err(|()| unusable("body"))?;
    let options = options(&request).map_err(|()| unusable("timeout"))?;
    let future = outgoing_handler::handle(outgoing, options).map_err(refusal)?;
    // When the host denies the request, it closes the body: the answer says why, not the failed write.
    let written = write(body, &request.body);
    let response = loop {
        match future.get() {
            Some(Ok(answer)) => break answer.map_err(refusal)?,
            Some(Err(())) => return Err(failed("the answer was taken twice".to_owned())),
            None => future.subscribe().block(),
        }
    };
    written.map_err(refusal)?;
    head(response)
}

fn head(response: IncomingResponse) -> Result<Head, Refusal> {
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let status = response.status();
    let taken = |()| failed("the body was taken twice".to_owned());
    let body = response.consume().map_err(taken)?;
    let stream = body.stream().map_err(taken)?;
    Ok(Head { status, headers, body: Body { stream, _body: body, _response: response } })
}

impl Body {
    pub(crate) fn read(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        loop {
            match self.stream.blocking_read(READ) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(match http_error_code(&error) {
                        Some(code) => refusal(code),
                        None => failed(error.to_debug_string()),
                    });
                }
            }
        }
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(request: &Request) -> Result<Option<RequestOptions>, ()> {
    let Some(timeout) = request.timeout else { return Ok(None) };
    let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1);
    let options = RequestOptions::new();
    options.set_connect_timeout(Some(nanoseconds))?;
    options.set_first_byte_timeout(Some(nanoseconds))?;
    options.set_between_bytes_timeout(Some(nanoseconds))?;
    Ok(Some(options))
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), ErrorCode> {
    if !bytes.is_empty() {
        let closed = || ErrorCode::ConnectionTerminated;
        let stream = body.write().map_err(|()| closed())?;
        for piece in bytes.chunks(WRITE) {
            stream.blocking_write_and_flush(piece).map_err(|error| match error {
                StreamError::Closed => closed(),
                StreamError::LastOperationFailed(error) => http_error_code(&error).unwrap_or_else(closed),
            })?;
        }
    }
    OutgoingBody::finish(body, None)
}

fn failed(why: String) -> Refusal {
    // The interface has no word for it: a request that was cut off by a cancel looks like any other that was.
    if super::cancelled() { Refusal::Cancelled } else { Refusal::Failed(why) }
}

fn refusal(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::HttpRequestDenied => Refusal::Denied("this request".to_owned()),
        ErrorCode::DestinationIpProhibited => {
            Refusal::Denied("the address that the name leads to".to_owned())
        }
        ErrorCode::ConnectionLimitReached => Refusal::OverLimit("requests".to_owned()),
        ErrorCode::HttpRequestBodySize(_) => Refusal::OverLimit("egress".to_owned()),
        ErrorCode::HttpResponseBodySize(_) => Refusal::OverLimit("ingress".to_owned()),
        ErrorCode::InternalError(Some(why)) => failed(why),
        code => failed(words(&code)),
    }
}

fn words(code: &ErrorCode) -> String {
    let words = match code {
        ErrorCode::DnsTimeout => "the name was not resolved in time",
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => "the name cannot be resolved",
        ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => {
            "the server cannot be reached"
        }
        ErrorCode::ConnectionRefused => "the server refused the connection",
        ErrorCode::ConnectionTerminated => "the connection was cut",
        ErrorCode::ConnectionTimeout => "no connection within the timeout",
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => "no answer within the timeout",
        ErrorCode::ConnectionWriteTimeout => "the request could not be sent within the timeout",
        ErrorCode::TlsCertificateError => "the server's certificate is not trusted",
        ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => "TLS could not be agreed on",
        ErrorCode::HttpRequestMethodInvalid => "the method cannot be sent",
        ErrorCode::HttpRequestUriInvalid => "the address cannot be sent",
        ErrorCode::HttpResponseIncomplete => "the answer was cut off",
        code => return format!("the request did not work: {code}"),
    };
    words.to_owned()
}
