// Requests over `wasi:http`.

import { handle } from "wasi:http/outgoing-handler@0.2.12";
import { Fields, OutgoingBody, OutgoingRequest, RequestOptions } from "wasi:http/types@0.2.12";
import { Refusal } from "./fail.js";

const READ = 64n * 1024n;
const WRITE = 4096;
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const DENIED = {
  "HTTP-request-denied": "this request",
  "destination-IP-prohibited": "the address that the name leads to",
};
const LIMITS = {
  "connection-limit-reached": "requests",
  "HTTP-request-body-size": "egress",
  "HTTP-response-body-size": "ingress",
};

function refusal(code) {
  if (code?.tag in DENIED) return new Refusal("denied", DENIED[code.tag]);
  if (code?.tag in LIMITS) return new Refusal("over-limit", LIMITS[code.tag]);
  if (code?.tag === "internal-error" && code.val) return new Refusal("failed", code.val);
  return new Refusal("failed", `the request did not work: ${code?.tag ?? code}`);
}

function tried(call) {
  try {
    return call();
  } catch (error) {
    throw refusal(error?.payload ?? error);
  }
}

/** Sends a request; gives status, headers and the body, or no body where it is larger than `maxBody`. */
export function send({ method, scheme, authority, path, headers, body, timeout, maxBody }) {
  const encoder = new TextEncoder();
  const fields = tried(() => Fields.fromList(headers.map(([name, value]) => [name, encoder.encode(value)])));
  const request = new OutgoingRequest(fields);
  tried(() => {
    request.setMethod(METHODS.includes(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method });
    request.setScheme({ tag: scheme === "https" ? "HTTPS" : "HTTP" });
    request.setAuthority(authority);
    request.setPathWithQuery(path);
  });
  const outgoing = request.body();
  let options;
  if (timeout !== undefined) {
    options = new RequestOptions();
    const nanoseconds = BigInt(Math.max(1, Math.round(timeout * 1e6)));
    options.setConnectTimeout(nanoseconds);
    options.setFirstByteTimeout(nanoseconds);
    options.setBetweenBytesTimeout(nanoseconds);
  }
  const future = tried(() => handle(request, options));
  // When the host denies the request, it closes the body: the answer says why, not the failed write.
  const cut = write(outgoing, body);
  const response = answer(future);
  if (cut) throw new Refusal("failed", "the request was cut off");
  const decoder = new TextDecoder();
  const found = response.headers().entries().map(([name, value]) => [name, decoder.decode(value)]);
  return { status: response.status(), headers: found, body: read(response, maxBody) };
}

function write(outgoing, body) {
  try {
    if (body.length > 0) {
      const stream = outgoing.write();
      for (let at = 0; at < body.length; at += WRITE) stream.blockingWriteAndFlush(body.slice(at, at + WRITE));
      stream[Symbol.dispose]();
    }
    OutgoingBody.finish(outgoing, undefined);
    return false;
  } catch {
    return true;
  }
}

function answer(future) {
  for (;;) {
    const got = future.get();
    if (got === undefined) {
      future.subscribe().block();
      continue;
    }
    const inner = got.tag === "ok" ? got.val : { tag: "err", val: undefined };
    if (inner.tag === "ok") return inner.val;
    throw refusal(inner.val);
  }
}

function read(response, most) {
  const stream = response.consume().stream();
  const pieces = [];
  let length = 0;
  for (;;) {
    let piece;
    try {
      piece = stream.blockingRead(READ);
    } catch (error) {
      const payload = error?.payload ?? error;
      if (payload?.tag === "closed") break;
      throw new Refusal("failed", "the answer was cut off");
    }
    length += piece.length;
    if (length > most) return undefined;
    pieces.push(piece);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
