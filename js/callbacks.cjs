// The application's objects (provider, hooks) as functions that Rust can call without surprises: JSON in, JSON out by `settle`, never a throw.
'use strict';

const { asked } = require('./asker.cjs');
const binding = require('./binding.cjs');
const { invalidOption } = require('./errors.cjs');
const { logger } = require('./logger.cjs');
const { typeOf } = require('./token-type.cjs');
const { fixedUpstreams } = require('./upstream.cjs');

/** Marks what a method must return, for the message when it doesn't. */
const returns = {
  nothing: () => null,
  userId: (value, name) => (value === undefined || value === null ? null : want(typeof value === 'string', value, name, 'a user id or null')),
  text: (value, name) => want(typeof value === 'string', value, name, 'a string'),
  truth: (value, name) => want(typeof value === 'boolean', value, name, 'true or false'),
  verdict(value, name) {
    want(value !== null && typeof value === 'object' && typeof value.allowed === 'boolean', value, name, '{ allowed, reason? }');
    return { allowed: value.allowed, reason: value.reason === undefined || value.reason === null ? null : String(value.reason) };
  },
  object: (value, name) => (value === undefined || value === null ? null : want(typeof value === 'object', value, name, 'an object or null')),
  token: (value, name) => (value === undefined || value === null ? null : token(value, name)),
  tokens: (value, name, [userId]) => want(Array.isArray(value), value, name, 'an array of tokens').map((one) => listed(one, name, userId)),
};

function want(holds, value, name, expected) {
  if (holds) return value;
  throw new TypeError(`${name}() must return ${expected}, not ${value === null ? 'null' : typeof value}`);
}

function token(value, name) {
  want(typeof value === 'object' && typeof value.userId === 'string', value, name, 'a token with a `userId`');
  const { type, userId, scopes, readonly, expiresAt, metadata } = value;
  const expires = expiresAt === undefined || expiresAt === null ? null : new Date(expiresAt).getTime();
  return { type: type ?? null, userId, scopes: scopes ?? [], readonly: readonly ?? false, expiresAt: expires, metadata: metadata ?? null };
}

/** A token of a list. Whose they are goes without saying there; what only lists tell is read from the metadata. */
function listed(value, name, userId) {
  want(value !== null && typeof value === 'object', value, name, 'an array of tokens');
  const { protocol, key, created, lastUsed, name: title, ...rest } = value;
  const made = token({ userId, ...rest }, name);
  const told = { key, created, lastUsed, name: title, ...made.metadata };
  return { ...made, type: typeOf(made.type, protocol, made.scopes) ?? null, metadata: told };
}

/** Nulls that JSON brought become absent, and milliseconds dates, as the application's types have them. */
function revived(value) {
  if (value === null) return null;
  const object = {};
  for (const [name, field] of Object.entries(value)) if (field !== null) object[name] = field;
  if (typeof object.expiresAt === 'number') object.expiresAt = new Date(object.expiresAt);
  if (typeof object.timestamp === 'number') object.timestamp = new Date(object.timestamp);
  if (object.metadata && 'timestamp' in object) object.metadata = revived(object.metadata);
  return object;
}

const argument = (value) => (value !== null && typeof value === 'object' ? revived(value) : (value ?? undefined));

/** The message says what failed; the stack goes to the log. */
function failure(error) {
  if (error instanceof Error) return { error: error.message || error.name, stack: error.stack ?? '' };
  return { error: `something that is no Error was thrown: ${String(error)}`, stack: '' };
}

/** Settles sync returns, thenables and throws alike, once; the call keeps `this`. What needs no promise makes none. */
function wrap(object, option, name, check) {
  const label = `${option}.${name}`;
  return (call, json) => {
    const failed = (error) => binding.settle(call, JSON.stringify(failure(error)));
    let given;
    const returned = (value) => {
      let text;
      try {
        text = JSON.stringify({ value: check(value, label, given) ?? null });
      } catch (error) {
        return failed(error);
      }
      binding.settle(call, text);
    };
    try {
      given = JSON.parse(json).map(argument);
      if (name === 'authorize') given[0] ??= null;
      if (name === 'resolveUpstreamConfig') given[0].scope ??= null;
      const value = name === 'authenticate' ? asked(given.pop(), () => object[name](...given)) : object[name](...given);
      if (value instanceof Promise) value.then(returned, failed);
      else if (typeof value?.then === 'function') Promise.resolve(value).then(returned, failed);
      else returned(value);
    } catch (error) {
      failed(error);
    }
  };
}

function wrapAll(object, option, methods) {
  const made = {};
  for (const [name, { check, optional }] of Object.entries(methods)) {
    if (typeof object[name] === 'function') made[name] = wrap(object, option, name, check);
    else if (object[name] !== undefined && object[name] !== null) throw invalidOption(`${option}.${name}`, 'must be a function');
    else if (!optional) throw invalidOption(`${option}.${name}`, 'is missing');
  }
  return made;
}

const PROVIDER = {
  init: { check: returns.nothing, optional: true },
  authenticate: { check: returns.userId },
  validateToken: { check: returns.token },
  createToken: { check: returns.text },
  revokeToken: { check: returns.nothing },
  authorize: { check: returns.truth },
  listUserTokens: { check: returns.tokens, optional: true },
};

const UPSTREAMS = { resolveUpstreamConfig: { check: returns.object } };

const HOOKS = {
  beforePut: { check: returns.verdict, optional: true },
  afterPut: { check: returns.nothing, optional: true },
  beforeDelete: { check: returns.verdict, optional: true },
  afterDelete: { check: returns.nothing, optional: true },
  afterGet: { check: returns.nothing, optional: true },
};

/**
 * What the binding takes beside the configuration.
 *
 * @param {any} config an `IRegistryConfig`
 */
function extensions({ authProvider, storageHooks, upstreamProvider, logger: given }) {
  /** @type {any} */
  const made = { logger: logger(given) };
  if (authProvider) made.authProvider = wrapAll(authProvider, 'authProvider', PROVIDER);
  if (storageHooks) made.storageHooks = wrapAll(storageHooks, 'storageHooks', HOOKS);
  // What is the same for every request is configuration, and needs no JavaScript on the way.
  if (upstreamProvider && !fixedUpstreams(upstreamProvider)) made.upstreamProvider = wrapAll(upstreamProvider, 'upstreamProvider', UPSTREAMS);
  return made;
}

module.exports = { extensions };
