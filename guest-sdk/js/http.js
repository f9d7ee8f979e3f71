// HTTP requests to the hosts that the step's remit names, asked for with `[[http]]`. Redirects are not followed.
//
//     const services = http.get("https://control.example/v1/services").ok().json();

import { Fail } from "./fail.js";
import { send } from "./guest-http.js";

const MAX_BODY = 4 << 20;

/** What the server said. Names of headers are in small letters. */
class Answer {
  constructor(request, status, headers, body) {
    Object.assign(this, { request, status, headers, body });
  }

  /** The first header of this name; undefined if there is none. */
  header(name) { return this.headers.find(([own]) => own.toLowerCase() === name.toLowerCase())?.[1]; }

  get text() { return new TextDecoder().decode(this.body); }

  /** The body as JSON; a failure if it is none. */
  json() {
    try {
      return JSON.parse(this.text);
    } catch (error) {
      throw new Fail(`${this.request}: the answer (status ${this.status}) is not JSON: ${error.message}`);
    }
  }

  /** This, or a failure with the status and the beginning of the body for a status of 400 or more. */
  ok() {
    if (this.status < 400) return this;
    throw new Fail(`${this.request}: the server answered with status ${this.status}`, { status: this.status, body: this.text.slice(0, 512) });
  }
}

/** Sends a request and reads the answer. `json` is written as the body; `timeout` is in milliseconds. */
export function request(method, url, { headers = {}, body = "", json, timeout, maxBody = MAX_BODY } = {}) {
  const parts = /^(https?):\/\/([^/?#@\s]+)(\/[^?#\s]*)?(\?[^#\s]*)?(?:#.*)?$/.exec(url);
  if (!parts) throw new TypeError(`${JSON.stringify(url)} is not an address such as https://host/path; a login stands in no address`);
  const [, scheme, authority, path = "/", query = ""] = parts;
  const sent = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]);
  if (json !== undefined) {
    body = JSON.stringify(json);
    if (!sent.some(([name]) => name === "content-type")) sent.push(["content-type", "application/json"]);
  }
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const name = `${method} ${scheme}://${authority}${path}`;
  const answer = send({ method, scheme, authority, path: path + query, headers: sent, body: bytes, timeout, maxBody });
  if (!answer.body) throw new Fail(`${name}: the answer is larger than ${maxBody} bytes`);
  return new Answer(name, answer.status, answer.headers, answer.body);
}

const method = (name) => (url, options) => request(name, url, options);

export const get = method("GET");
export const post = method("POST");
export const put = method("PUT");
export const patch = method("PATCH");
export const del = method("DELETE");
