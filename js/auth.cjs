// AuthManager: users, tokens and rights over the binding, and the built-in provider as a class of its own.
'use strict';

const { isClient } = require('./asker.cjs');
const { callAsync, RegistryError } = require('./errors.cjs');
const { createRegistry, isObject } = require('./config.cjs');
const { typeOf } = require('./token-type.cjs');

/** Marks a constructor call from inside: the native object follows. */
const inside = Symbol('from a registry');

/** The auth of a registry that has nothing else, for managers and providers of one's own. */
function standalone(config, from) {
  const auth = isObject(config) ? config : {};
  return createRegistry({ storage: { type: 'memory' }, auth }, {}, from).auth();
}

/** A token as its readers get it; `asked` is the protocol that it was looked up for. */
function tokenOut(native, asked) {
  if (!native) return null;
  const { kind, userId, scopes, readonly, expiresAt, metadata } = native;
  /** @type {any} */
  const token = { userId, scopes, readonly };
  const type = typeOf(kind, asked, scopes);
  if (type) token.type = type;
  if (expiresAt !== undefined && expiresAt !== null) token.expiresAt = new Date(expiresAt);
  if (metadata) token.metadata = JSON.parse(metadata);
  return token;
}

const time = (value) => (value === undefined || value === null ? undefined : new Date(value).getTime());

function tokenIn(token) {
  if (token === undefined || token === null) return undefined;
  if (typeof token.userId !== 'string') throw new RegistryError('the token has no `userId`; pass what validateToken() gave', { status: 400 });
  return {
    kind: token.type,
    userId: token.userId,
    scopes: token.scopes ?? [],
    readonly: token.readonly ?? false,
    expiresAt: time(token.expiresAt),
    metadata: token.metadata === undefined ? undefined : JSON.stringify(token.metadata),
  };
}

/** A token as lists show it. */
function infoOut({ kind, userId, scopes, readonly, expiresAt, metadata, key, hint, protocol, name, created, lastUsed }) {
  /** @type {any} */
  const info = { key, hint, type: protocol ?? kind, protocol: protocol ?? kind, userId, scopes, readonly };
  if (name) info.name = name;
  if (created !== undefined) info.created = new Date(created).toISOString();
  if (expiresAt !== undefined && expiresAt !== null) info.expiresAt = new Date(expiresAt);
  if (lastUsed !== undefined && lastUsed !== null) info.lastUsed = new Date(lastUsed);
  if (metadata) info.metadata = JSON.parse(metadata);
  return info;
}

function optionsIn(options) {
  const { readonly, scopes, expiresAt, expiresIn, cidr, name, metadata } = options ?? {};
  return {
    readonly,
    scopes,
    expiresAt: expiresIn === undefined ? time(expiresAt) : Date.now() + expiresIn * 1000,
    cidr,
    name,
    metadata: metadata === undefined ? undefined : JSON.stringify(metadata),
  };
}

function needUser(userId, method) {
  if (typeof userId === 'string' && userId !== '') return userId;
  throw new RegistryError(`${method}() needs a user id; authenticate() gives null for a wrong password`, { status: 400 });
}

function needText(value, method, what) {
  if (typeof value === 'string') return value;
  throw new RegistryError(`${method}() needs ${what}`, { status: 400 });
}

class AuthManager {
  /** @type {any} */
  #native;
  #relays;

  /**
   * The one of a registry comes from `registry.getAuthManager()`. One made here keeps users and tokens in this process.
   *
   * @param {any} config an `IAuthConfig`
   * @param {any} [given]
   * @param {boolean} [relays] whether it stands behind a provider that clients are asked through
   */
  constructor(config, given, relays = false) {
    this.#relays = config === inside && relays;
    this.#native = config === inside ? given : standalone(config, AuthManager);
  }

  async init() {
    await callAsync(() => this.#native.init(), this.init);
  }

  /** The user's id; null for a wrong password. An unknown user name is registered. */
  async authenticate(credentials) {
    const username = needText(credentials?.username, 'authenticate', 'a user name');
    const password = needText(credentials?.password, 'authenticate', 'a password');
    const otp = credentials.otp === undefined || credentials.otp === null ? undefined : needText(credentials.otp, 'authenticate', 'a one-time pass');
    return (await callAsync(() => this.#native.authenticate(username, password, otp, this.#relays && isClient()), this.authenticate)) ?? null;
  }

  /** A token of any protocol. */
  async createToken(userId, protocol, options) {
    needUser(userId, 'createToken');
    return callAsync(() => this.#native.createToken(userId, protocol, optionsIn(options)), this.createToken);
  }

  /** A signed token (JWT) for containers. */
  async createOciToken(userId, scopes, expiresInSeconds = 3600) {
    needUser(userId, 'createOciToken');
    return callAsync(() => this.#native.createOciToken(userId, scopes ?? [], expiresInSeconds), this.createOciToken);
  }

  createNpmToken(userId, readonly) {
    return this.#create('createNpmToken', userId, 'npm', readonly);
  }

  createMavenToken(userId, readonly) {
    return this.#create('createMavenToken', userId, 'maven', readonly);
  }

  createCargoToken(userId, readonly) {
    return this.#create('createCargoToken', userId, 'cargo', readonly);
  }

  createComposerToken(userId, readonly) {
    return this.#create('createComposerToken', userId, 'composer', readonly);
  }

  createPypiToken(userId, readonly) {
    return this.#create('createPypiToken', userId, 'pypi', readonly);
  }

  createRubyGemsToken(userId, readonly) {
    return this.#create('createRubyGemsToken', userId, 'rubygems', readonly);
  }

  async #create(method, userId, protocol, readonly) {
    needUser(userId, method);
    const options = { readonly: readonly === undefined ? undefined : Boolean(readonly) };
    return callAsync(() => this.#native.createToken(userId, protocol, options), this[method]);
  }

  /** The token behind a text, if it is good now; with `protocol`, only if it is good for that. */
  async validateToken(token, protocol) {
    if (typeof token !== 'string' || token === '') return null;
    return tokenOut(await callAsync(() => this.#native.validateToken(token, protocol ?? undefined), this.validateToken), protocol);
  }

  validateOciToken(token) {
    return this.validateToken(token, 'oci');
  }

  validateNpmToken(token) {
    return this.validateToken(token, 'npm');
  }

  validateMavenToken(token) {
    return this.validateToken(token, 'maven');
  }

  validateCargoToken(token) {
    return this.validateToken(token, 'cargo');
  }

  validateComposerToken(token) {
    return this.validateToken(token, 'composer');
  }

  validatePypiToken(token) {
    return this.validateToken(token, 'pypi');
  }

  validateRubyGemsToken(token) {
    return this.validateToken(token, 'rubygems');
  }

  /** Whether a token (null: nobody) may do `action` to `resource`, e.g. `npm:package:my-package`. */
  async authorize(token, resource, action) {
    const given = tokenIn(token);
    return callAsync(() => this.#native.authorize(given, String(resource), String(action)), this.authorize);
  }

  /** Ends a token; one that isn't there is fine. */
  async revokeToken(token) {
    needText(token, 'revokeToken', 'a token');
    await callAsync(() => this.#native.revokeToken(token), this.revokeToken);
  }

  revokeOciToken(token) {
    return this.revokeToken(token);
  }

  revokeNpmToken(token) {
    return this.revokeToken(token);
  }

  revokeMavenToken(token) {
    return this.revokeToken(token);
  }

  revokeCargoToken(token) {
    return this.revokeToken(token);
  }

  revokeComposerToken(token) {
    return this.revokeToken(token);
  }

  revokePypiToken(token) {
    return this.revokeToken(token);
  }

  revokeRubyGemsToken(token) {
    return this.revokeToken(token);
  }

  /** A user's tokens, without their texts. */
  async listUserTokens(userId) {
    needUser(userId, 'listUserTokens');
    const listed = await callAsync(() => this.#native.listTokens(userId), this.listUserTokens);
    if (listed.length > 0) return listed.map(infoOut);
    return (await callAsync(() => this.#native.listUserTokens(userId), this.listUserTokens)).map(infoOut);
  }

  getUserTokens(userId) {
    return this.listUserTokens(userId);
  }
}

/**
 * The built-in provider, to be wrapped or extended. Made by itself it keeps users and tokens in this process. An unknown name is registered when the
 * application asks; when a client does, through a registry whose provider this is, only with `selfRegistration`.
 */
class DefaultAuthProvider {
  #manager;

  /** @param {any} [config] an `IAuthConfig` */
  constructor(config) {
    this.#manager = new AuthManager(inside, standalone(config, DefaultAuthProvider), true);
  }

  async init() {
    await this.#manager.init();
  }

  async authenticate(credentials) {
    return this.#manager.authenticate(credentials);
  }

  async validateToken(token, protocol) {
    return this.#manager.validateToken(token, protocol);
  }

  async createToken(userId, protocol, options) {
    return this.#manager.createToken(userId, protocol, options);
  }

  async revokeToken(token) {
    await this.#manager.revokeToken(token);
  }

  async authorize(token, resource, action) {
    return this.#manager.authorize(token, resource, action);
  }

  async listUserTokens(userId) {
    return this.#manager.listUserTokens(userId);
  }
}

const authManager = (native) => new AuthManager(inside, native);

module.exports = { AuthManager, DefaultAuthProvider, authManager, tokenOut, tokenIn };
