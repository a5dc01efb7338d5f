// The public types. `Buffer`, Node's streams and its HTTP types come from @types/node.
/// <reference types="node" />

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';

// ---- protocols -------------------------------------------------------------------------------------------------------------------

/** Protocols by name, as `getRegistry()` and scopes know them. */
export type TRegistryProtocol = 'oci' | 'npm' | 'maven' | 'cargo' | 'composer' | 'pypi' | 'rubygems';

/** What a scope allows. `write` implies `read`, `push` implies `pull`; nothing implies `delete` but `*`. */
export type TRegistryAction = 'read' | 'write' | 'delete' | 'pull' | 'push' | 'admin' | '*';

// ---- configuration ---------------------------------------------------------------------------------------------------------------

/**
 * The whole configuration of a registry, for programs that read it, too. What may be left out of it: {@link IRegistryInput}, which the constructor takes.
 * What is not usable makes it throw a {@link RegistryError} whose `option` names it.
 */
export interface IRegistryConfig {
  /** Where everything is kept. */
  storage: IStorageConfig;
  /** Users and tokens; with an `authProvider` only what is about tokens of this registry's own. */
  auth: IAuthConfig;
  /** Users, tokens and rights of your own in place of the built-in ones. */
  authProvider?: IAuthProvider;
  /** Called for every object that a user's action writes, deletes or reads. */
  storageHooks?: IStorageHooks;
  /** Where this registry's log goes, in place of stderr. */
  logger?: ILogger;
  /** This and what is worse is logged: 'warn' by default; 'info' has a line for each request. */
  logLevel?: TLogLevel;
  /** Says which upstreams are asked for what is not here; a `StaticUpstreamProvider` is configuration, anything else is asked for each request. */
  upstreamProvider?: IUpstreamProvider;
  /** The same as a `StaticUpstreamProvider`, for configuration files. */
  upstreams?: Partial<Record<TRegistryProtocol, IProtocolUpstreamConfig>>;
  /**
   * Whose `X-Forwarded-*` and `Forwarded` headers count: everybody's, nobody's (default), or those of peers in these networks. `nodeHandler()` and the listener
   * know the peer, `handleRequest()` does not: with a list such headers count for none of its requests.
   */
  trustProxy?: boolean | string[];
  /** Bounds on what requests may bring and what the process may take. */
  limits?: ILimits;
  /** Whom to tell of changes. */
  webhooks?: IWebhookConfig[];
  /** Work that no request asks for. */
  maintenance?: IMaintenanceConfig;
  oci?: IOciConfig;
  npm?: INpmConfig;
  maven?: IProtocolConfig;
  cargo?: IProtocolConfig;
  composer?: IProtocolConfig;
  pypi?: IProtocolConfig;
  rubygems?: IProtocolConfig;
}

/** A configuration as it may be given: all but the storage may be left out, and of a protocol all but `enabled`. Every {@link IRegistryConfig} is one. */
export interface IRegistryInput extends Omit<IRegistryConfig, 'auth' | TRegistryProtocol> {
  auth?: IAuthInput;
  oci?: TProtocolInput<IOciConfig>;
  npm?: TProtocolInput<INpmConfig>;
  maven?: TProtocolInput;
  cargo?: TProtocolInput;
  composer?: TProtocolInput;
  pypi?: TProtocolInput;
  rubygems?: TProtocolInput;
}

/** The options of a protocol as they may be given: without a `basePath`, too. */
export type TProtocolInput<C extends IProtocolConfig = IProtocolConfig> = Partial<C> & Pick<C, 'enabled'>;

export type TLogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

/**
 * Takes what a registry logs: `console`, winston's loggers, or an object of your own. Lines of a level without a method are dropped, and so are lines that come
 * faster than the event loop takes them, which a later line tells. What a method throws or rejects with changes nothing.
 */
export interface ILogger {
  error?(message: string, about?: ILogFields): unknown;
  warn?(message: string, about?: ILogFields): unknown;
  info?(message: string, about?: ILogFields): unknown;
  debug?(message: string, about?: ILogFields): unknown;
  trace?(message: string, about?: ILogFields): unknown;
}

/** What a line is about, beside its own fields: `status`, `ms`, `key`, `causes` … */
export interface ILogFields {
  time: Date;
  /** The id in the answer's `X-Request-ID`; absent for work that no request asked for. */
  requestId?: string;
  protocol?: string;
  /** Which part of the library speaks; `access` has one line for each request. */
  target?: string;
  [field: string]: unknown;
}

/**
 * A receiver of events, each a POST in the form of Standard Webhooks. At least once and in order; tried again for a day. Of the processes that
 * share a bucket one delivers.
 */
export interface IWebhookConfig {
  /** Where the POST goes, `http:` or `https:`. */
  url: string;
  /** What requests are signed with: a text, or `whsec_` and base64. Without it they are not signed. */
  secret?: string;
  /** Only these: `publish`, `unpublish`, `dist-tag`, `deprecate`, `owner`, `star`, `access` (npm); `create`, `push`, `delete` (OCI). */
  events?: string[];
  /** Only changes in these; all without it. */
  protocols?: TRegistryProtocol[];
  /** Globs of names: `@acme/*`. */
  names?: string[];
}

/** An S3 descriptor, a local folder, or memory. */
export interface IStorageConfig {
  /** Without it `path` means local, anything else S3. */
  type?: 's3' | 'local' | 'memory';
  /** `local`: the folder. */
  path?: string;
  /** `local`: `full` (default) survives power loss, `relaxed` a killed process. */
  durability?: 'full' | 'relaxed';
  /** S3: host, host:port, or URL. A scheme in it wins over `useSsl`. */
  endpoint?: string;
  /** S3: wins over a port in `endpoint`. */
  port?: number | string;
  /** S3: `https` (default) or `http`, where `endpoint` has no scheme. */
  useSsl?: boolean | 'true' | 'false';
  /** S3: leave both keys out for the default credential chain of AWS. */
  accessKey?: string;
  /** S3: the secret of `accessKey`. */
  accessSecret?: string;
  /** S3: for temporary keys. */
  sessionToken?: string;
  /** S3: `us-east-1` by default. */
  region?: string;
  /** S3: a file with certificates (PEM) to trust besides those of the platform and of `NODE_EXTRA_CA_CERTS`. */
  caFile?: string;
  /** S3: the bucket, created when it is missing. */
  bucketName?: string;
  /** S3: prefix of every key. */
  directoryPath?: string;
  /** S3: `auto` (default) probes and warns, `required` refuses a bucket that is not safe for many writers, `off` is for one writing process. */
  conditionalWrites?: 'auto' | 'required' | 'off';
  /** S3: answer downloads of OCI blobs from 1 MiB on with a redirect to a presigned URL. */
  redirectDownloads?: boolean;
}

/** Whether a protocol has tokens. */
export interface ITokensConfig {
  /** On unless switched off. */
  enabled?: boolean;
}

/** The built-in users and tokens, and what holds for a provider of one's own. */
export interface IAuthConfig {
  /** Signs OCI tokens (HS256): 32 random bytes, the same in every process. May be left out only with `tokenStore: 'memory'`: tokens then end with the process. */
  jwtSecret: string;
  /**
   * Where users and tokens are kept; `memory` by default: they end with the process. `redis` and `database` without their URLs keep them in the
   * registry's own storage, as `storage` does.
   */
  tokenStore: 'memory' | 'storage' | 'redis' | 'database';
  /** For `tokenStore: 'redis'`: `redis://user:password@host:6379/0`, or `rediss://…` for TLS. The last part is the number of the database. */
  redisUrl?: string;
  /** For `tokenStore: 'database'`: `postgres://user:password@host/database?sslmode=verify-full`, or `sqlite:path` of a file. */
  databaseUrl?: string;
  /** `defaultReadonly`: whether `createNpmToken()` makes read-only tokens where it is not said; no by default. */
  npmTokens?: ITokensConfig & { defaultReadonly?: boolean };
  /** `realm`: URL of the token endpoint that clients are sent to, this registry's own by default; `service`: what tokens are for, as clients name it. */
  ociTokens?: ITokensConfig & { realm?: string; service?: string };
  mavenTokens?: ITokensConfig;
  cargoTokens?: ITokensConfig;
  composerTokens?: ITokensConfig;
  pypiTokens?: ITokensConfig;
  rubygemsTokens?: ITokensConfig;
  /** Whether an unknown user name that logs in over HTTP is registered; no by default. */
  selfRegistration?: boolean;
  /** The first pattern that matches decides, e.g. `{ pattern: 'npm:package:@acme/*', visibility: 'private' }`. */
  visibility?: { pattern: string; visibility: 'public' | 'private' }[];
  /** Build services whose identity tokens (OpenID Connect) may be exchanged for a token of a package that trusts them (`npm trust`). */
  trustedIssuers?: ITrustedIssuer[];
  /** Seconds for which answers of a custom provider are believed; 0 (default) asks every time. */
  providerCacheSeconds?: number;
  /** Milliseconds that a custom provider may take for one call; 10,000 by default, and at least 30,000 for its `init`. Beyond: 500, and no access. */
  providerTimeoutMs?: number;
}

/** Options of {@link IAuthConfig} as they may be given: each may be left out. */
export type IAuthInput = Partial<IAuthConfig>;

/** A build service whose identity tokens are believed. */
export interface ITrustedIssuer {
  /** `iss` of its tokens, exactly: `https://token.actions.githubusercontent.com`. */
  issuer: string;
  /** Which records of trust it can meet: `github`, `gitlab`, `circleci`, or a name of your own. */
  type: string;
  /** `aud` of its tokens; `npm:` and the host of `npm.registryUrl` unless given. */
  audience?: string;
  /**
   * Its JWKS document, inline: RSA (RS256) and P-256 (ES256) keys. Without it they are fetched when the first token comes, from where
   * `{issuer}/.well-known/openid-configuration` says, and kept for as long as the issuer allows (5 minutes to 24 hours; one hour by default).
   */
  jwks?: { keys: Record<string, unknown>[] };
  /** Where its JWKS document lies, if the discovery document is not to be asked. `jwks` wins. */
  jwksUrl?: string;
  /**
   * Whether it may name, or redirect to, hosts with private addresses; by default if its own host has one. `true` also lets keys come without TLS from
   * this machine itself (`http://127.0.0.1:…`), for tests.
   */
  allowPrivateAddresses?: boolean;
}

/** Collections, abandoned uploads and the like. */
export interface IMaintenanceConfig {
  /** Whether this process does any by itself; on by default. One of those that share a bucket must. */
  enabled?: boolean;
  /** Milliseconds between two rounds, about; one hour by default. Of the processes that share a bucket, one does a round. */
  intervalMs?: number;
}

/** What every protocol has. */
export interface IProtocolConfig {
  /** A protocol that is off answers nowhere: 404. */
  enabled: boolean;
  /** URL prefix; `/name` of the protocol where it is left out. */
  basePath: string;
  /** Public base URL in generated links; made from the request without it. */
  registryUrl?: string;
  /** `anonymousRead` (on); npm: `webLogin` (off), `abbreviatedTime` (on), `validateTarball` (on). */
  features?: Record<string, boolean>;
  /**
   * OCI: tags that keep what they first named, as `repository:tag` with `*` for any run of characters; with `!` in front, tags that may move all the
   * same. The first rule that fits decides: `['!*:latest', 'team/*:v*']`.
   */
  immutableTags?: string[];
}

/** What OCI has beyond the options of every protocol. */
export interface IOciConfig extends IProtocolConfig {
  /** Removal of what no manifest names. The same in all processes that share a bucket. */
  gc?: {
    /** Whether maintenance collects by itself; on by default. `registry.gc()` and the command line do at any time. */
    enabled?: boolean;
    /** Milliseconds that an unreferenced blob stays after it was last pushed, mounted or asked for: longer than any push takes. 24 hours by default, at least 5000. */
    graceMs?: number;
    /** Milliseconds between two collections by maintenance, at least; 24 hours by default. */
    intervalMs?: number;
    /** What becomes of manifests that no tag reaches: `keep` by default. */
    untagged?: 'keep' | 'delete';
    /** Milliseconds that such a manifest stays after it was last pushed or pulled; 7 days by default. */
    untaggedAgeMs?: number;
  };
  /** Tags that go by themselves. The first rule with a pattern that fits decides; a tag that none fits stays. */
  retention?: IRetentionRule[];
}

/** One rule of `oci.retention`. A tag stays if any `keep…` keeps it; a rule without one keeps every tag that it fits. */
export interface IRetentionRule {
  /** Patterns of repositories' names, with `*` for any run of characters; all by default. */
  repositories?: string[];
  /** Patterns of tags; all by default. `keepLast…` count per pattern. */
  tags?: string[];
  /** Keep so many that were pushed last. */
  keepLastPushed?: number;
  /** Keep so many that were pulled last. */
  keepLastPulled?: number;
  /** Keep what was pushed within so many days. */
  keepPushedDays?: number;
  /** Keep what was pulled within so many days. */
  keepPulledDays?: number;
  /** Keep tags that `immutableTags` fixes, whatever else this rule says; they are no exception otherwise. */
  keepImmutable?: boolean;
}

/** What npm has beyond the options of every protocol. */
export interface INpmConfig extends IProtocolConfig {
  /** The registry's own signatures (`features.signing: false` switches them off). */
  signing?: {
    /** PKCS#8 in PEM, ECDSA on P-256. Without it the registry makes a key pair and keeps it in its storage. */
    privateKey?: string;
    /** Days after which a key pair of the registry's own is replaced; never without it. */
    rotateDays?: number;
  };
  publish?: {
    /** Seconds for which the same publish by the same user is answered as the first one was; 900 by default. */
    idempotentWindow?: number;
  };
  /** Known vulnerabilities by package, for `npm audit`. */
  advisories?: Record<string, INpmAdvisory[]>;
}

/** As npm's bulk endpoint answers it. */
export interface INpmAdvisory {
  id?: number;
  url?: string;
  title?: string;
  severity?: 'info' | 'low' | 'moderate' | 'high' | 'critical';
  /** A range; every version without it. */
  vulnerable_versions?: string;
  cwe?: string[];
  cvss?: { score: number; vectorString?: string | null };
}

/** Bounds, in bytes unless the name says otherwise. Beyond one the answer is 413 and names it. */
export interface ILimits {
  /** An artifact: tarball, blob, crate. 100 GiB by default. */
  artifact?: number;
  /** An OCI manifest. 4 MiB by default. */
  manifest?: number;
  /** The JSON around the attachments of an npm publish, and every other JSON body that is a whole document. 8 MiB by default. */
  metadata?: number;
  /** A stored packument: the document of an npm package with all its versions. 64 MiB by default. */
  packument?: number;
  /** A small body: login, token, tag. 1 MiB by default. */
  smallBody?: number;
  /** What an archive may unpack to while it is checked. 1 GiB by default. */
  unpacked?: number;
  /** Memory for cached documents of this process. 64 MiB by default. */
  cache?: number;
  /** Memory for parts of uploads of this process. 512 MiB by default. */
  uploadMemory?: number;
  /** Milliseconds for which a cached document is served unchecked: what other processes write is seen after it, and through `nodeHandler()` after a tenth more. 1000 by default. */
  metadataTtlMs?: number;
  /** Milliseconds that a storage hook may take; 30,000 by default. A `before` that takes longer denies. */
  hookTimeoutMs?: number;
  /**
   * Milliseconds after which the file or the connection behind a body that nobody reads is let go; 60,000 by default. It is opened again where it was for
   * a reader who comes after all; a download from an upstream that is not stored yet ends with an error then.
   */
  bodyIdleMs?: number;
  /** OCI: manifests (signatures, SBOMs, …) that may refer to one subject; beyond it the answer is 403. 10,000 by default. */
  referrers?: number;
  /** OCI: uploads that one user may have begun and not finished; beyond it the answer is 429. 10,000 by default. */
  openUploads?: number;
}

// ---- requests and answers --------------------------------------------------------------------------------------------------------

/** Names in any case; values alone or as a list. */
export type THeaders = Record<string, string | number | readonly string[] | null | undefined> | Iterable<readonly [string, string]>;

/** A query as text, or parsed: values alone or as a list. */
export type TQuery = Record<string, any> | Iterable<readonly [string, string]> | string;

/** A Web stream, a Node stream, or anything that yields bytes; read with backpressure. */
export type TBodyStream = ReadableStream<Uint8Array> | NodeReadableStream<Uint8Array> | Readable | AsyncIterable<Uint8Array | string>;

/** A request, as the host application has it, and may read it on its way. More forms of it are taken: {@link IRequestInput}. */
export interface IRequestContext {
  /** `GET`, `put`: in any case. */
  method: string;
  /** Still percent-encoded, as `req.path` of Express. */
  path: string;
  /** Names in any case; values are strings or lists of them. Not typed so: whoever knows which it is, reads it as that. */
  headers: Record<string, any>;
  /** Values are strings or lists of them, as with `headers`. */
  query: Record<string, any>;
  /**
   * Bytes (`Buffer`, `Uint8Array`, `ArrayBuffer`, `Blob`), text, a stream ({@link TBodyStream}), a parsed JSON value, or the fields of a form: parsed, as
   * `FormData` or `URLSearchParams`.
   */
  body?: any;
  /** The exact bytes of a body that is given parsed too; they win. */
  rawBody?: Buffer;
  /** A bearer token that came outside the headers. */
  token?: string;
  /** Who asks, as the application knows it. */
  actor?: IRequestActor;
  /** Your own id of this request, for the log and `X-Request-ID`: 1 to 64 letters, digits, `-`, `_`, `.`; one is made up without it. */
  requestId?: string;
}

/** A request as it may be given: `Headers`, `URLSearchParams` and the like as they are, or none. Every {@link IRequestContext} is one. */
export interface IRequestInput extends Omit<IRequestContext, 'headers' | 'query' | 'rawBody'> {
  headers?: THeaders;
  query?: TQuery;
  /** The exact bytes of a body that is given parsed too; they win. */
  rawBody?: Buffer | Uint8Array;
}

/** Who asks, as the host application knows it; handed on to hooks and never trusted for access. */
export interface IRequestActor {
  userId?: string;
  tokenId?: string;
  /** Of the client, as the application takes it: no peer whose forwarding headers could be trusted by it. */
  ip?: string;
  userAgent?: string;
  orgId?: string;
  sessionId?: string;
  [more: string]: unknown;
}

/** Of both worlds: taken by `Readable.fromWeb`, `new Response` and `for await`, with and without the DOM library. */
export type TResponseBody = ReadableStream<Uint8Array> & NodeReadableStream<Uint8Array>;

/** An answer. Failures are answers too, in the form that the protocol's clients understand. */
export interface IResponse {
  /** The HTTP status. */
  status: number;
  /** In canonical case: `ETag`, `WWW-Authenticate`, `Docker-Upload-UUID`. */
  headers: Record<string, string>;
  /** A Web stream whatever the size; nothing for 204, 304 and HEAD. `cancel()` lets go of the store's connection. */
  body?: TResponseBody;
  /** A reason phrase of our own, for clients that show nothing else. */
  statusText?: string;
}

/** One entry of `errors` in an answer of OCI. */
export interface IRegistryError {
  /** As the specification names it: `MANIFEST_UNKNOWN`. */
  code: string;
  /** For people. */
  message: string;
  /** What more there is to say, by code. */
  detail?: any;
}

/** What every failure of this library throws or rejects with. */
export declare class RegistryError extends Error implements IRegistryError {
  constructor(message: string, details?: { code?: string; status?: number; option?: string; cause?: unknown });
  /** For programs: `INVALID_CONFIG`, `NOT_INITIALIZED`, `DESTROYED`, `CONFLICT`, … */
  code: string;
  /** The HTTP status that fits. */
  status: number;
  /** The option of the configuration that is wrong, if it is one. */
  option?: string;
}

// ---- auth ------------------------------------------------------------------------------------------------------------------------

/** What somebody logs in with. */
export interface ICredentials {
  username: string;
  password: string;
  /** The code of a second factor, where the user has one. */
  otp?: string;
}

/** What a token stands for. A provider may leave `type` and `readonly` out; who reads them gets an {@link IValidToken}. */
export interface IAuthToken {
  /** The protocol it was made for. */
  type?: TRegistryProtocol;
  /** Whose it is. */
  userId: string;
  /** `{protocol}:{type}:{name}:{action}` with `*` per field. */
  scopes: string[];
  /** Whether it may only read, whatever its scopes say. */
  readonly?: boolean;
  /** Never without it. */
  expiresAt?: Date;
  /** What its maker put there. */
  metadata?: Record<string, any>;
}

/** What an {@link AuthManager} says of a token that is good. */
export interface IValidToken extends IAuthToken {
  /** Where a provider of your own left it out: the protocol that was asked for, else the one that its scopes name first. Nothing only if they name none. */
  type: TRegistryProtocol;
  readonly: boolean;
}

/** A token as lists show it: never its text. */
export interface ITokenInfo extends IAuthToken {
  /** What it is revoked by where its text is not known. */
  key?: string;
  /** Its first characters. */
  hint?: string;
  /** The same as `type`. */
  protocol?: TRegistryProtocol;
  /** What its maker calls it. */
  name?: string;
  /** ISO 8601. */
  created?: string;
  /** Kept in memory and written down now and then. */
  lastUsed?: Date;
}

/** A token as a provider of your own lists it. `created` and `lastUsed` may be dates, or text in ISO 8601. */
export type TListedToken = Partial<Omit<ITokenInfo, 'created' | 'lastUsed'>> & { created?: string | Date; lastUsed?: string | Date };

/** What a new token may do, and for how long. */
export interface ITokenOptions {
  protocol?: TRegistryProtocol;
  /** Whether it may only read. */
  readonly?: boolean;
  /** Everything of the protocol by default. */
  scopes?: string[];
  /** Never by default. */
  expiresAt?: Date;
  /** Seconds from now; wins over `expiresAt`. */
  expiresIn?: number;
  /** Networks it may be used from; all without it. */
  cidr?: string[];
  /** For the user who looks at a list of them. */
  name?: string;
  /** Kept with it. */
  metadata?: Record<string, any>;
}

/** Both are taken: a value and a promise of it. */
export type MaybePromise<T> = T | Promise<T>;

/** Users, tokens and rights of the application. A call that throws, or takes too long, grants nothing and is answered with 500. */
export interface IAuthProvider {
  /** Called once by `SmartRegistry.init()`, which fails if it does. */
  init?(): MaybePromise<void>;
  /** The user's id, if the password is right. */
  authenticate(credentials: ICredentials): MaybePromise<string | null>;
  /** What the token stands for; null for one that is unknown, revoked or expired. */
  validateToken(token: string, protocol?: TRegistryProtocol): MaybePromise<IAuthToken | null>;
  /** The text of a new token. */
  createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): MaybePromise<string>;
  /** Ends a token; one that is not there is fine. */
  revokeToken(token: string): MaybePromise<void>;
  /** `resource` reads `npm:package:my-package`; `token` is null for nobody. */
  authorize(token: IAuthToken | null, resource: string, action: string): MaybePromise<boolean>;
  /** For `npm token list` and the like; without it they show none. Of each token so much as there is to tell: the user's own are meant. */
  listUserTokens?(userId: string): MaybePromise<TListedToken[]>;
}

/**
 * Users, tokens and rights of a registry, for the application around it. Its calls reject with a {@link RegistryError} for arguments that make no sense,
 * and where the store or the provider behind fails.
 */
export declare class AuthManager {
  /** The one of a registry comes from `getAuthManager()`. One made here keeps users and tokens in this process. */
  constructor(config?: IAuthInput);
  /** Opens what is behind it. Idempotent. */
  init(): Promise<void>;
  /** The user's id; null for a wrong password. An unknown user name is registered. */
  authenticate(credentials: ICredentials): Promise<string | null>;
  /** The text of a new token of any protocol; it is shown this once and kept as a hash. */
  createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): Promise<string>;
  /** A signed token (JWT) with these scopes; good for an hour unless it is said otherwise. */
  createOciToken(userId: string, scopes: string[], expiresInSeconds?: number): Promise<string>;
  /** A UUID. `readonly` by default as `npmTokens.defaultReadonly` says. */
  createNpmToken(userId: string, readonly?: boolean): Promise<string>;
  createMavenToken(userId: string, readonly?: boolean): Promise<string>;
  createCargoToken(userId: string, readonly?: boolean): Promise<string>;
  createComposerToken(userId: string, readonly?: boolean): Promise<string>;
  createPypiToken(userId: string, readonly?: boolean): Promise<string>;
  createRubyGemsToken(userId: string, readonly?: boolean): Promise<string>;
  /** What a token stands for, if it is good now; with `protocol`, only if it is good for that. */
  validateToken(token: string, protocol?: TRegistryProtocol): Promise<IValidToken | null>;
  validateOciToken(token: string): Promise<IValidToken | null>;
  validateNpmToken(token: string): Promise<IValidToken | null>;
  validateMavenToken(token: string): Promise<IValidToken | null>;
  validateCargoToken(token: string): Promise<IValidToken | null>;
  validateComposerToken(token: string): Promise<IValidToken | null>;
  validatePypiToken(token: string): Promise<IValidToken | null>;
  validateRubyGemsToken(token: string): Promise<IValidToken | null>;
  /** Whether a token (null: nobody) may do `action` to `resource`, such as `npm:package:my-package`. */
  authorize(token: IAuthToken | null, resource: string, action: TRegistryAction | string): Promise<boolean>;
  /** Ends a token, and every token that was made from it, in all processes; one that is not there is fine. */
  revokeToken(token: string): Promise<void>;
  revokeOciToken(token: string): Promise<void>;
  revokeNpmToken(token: string): Promise<void>;
  revokeMavenToken(token: string): Promise<void>;
  revokeCargoToken(token: string): Promise<void>;
  revokeComposerToken(token: string): Promise<void>;
  revokePypiToken(token: string): Promise<void>;
  revokeRubyGemsToken(token: string): Promise<void>;
  /** The tokens of a user, without their texts. */
  listUserTokens(userId: string): Promise<(ITokenInfo & IValidToken)[]>;
  /** The same as `listUserTokens()`. */
  getUserTokens(userId: string): Promise<(ITokenInfo & IValidToken)[]>;
}

/**
 * The built-in provider, to be wrapped or extended. Made by itself it keeps users and tokens in this process. An unknown user name is registered when the
 * application asks (`authenticate()`); when a client does, through a registry whose provider this is, only with `selfRegistration`.
 */
export declare class DefaultAuthProvider implements IAuthProvider {
  constructor(config?: IAuthInput);
  init(): Promise<void>;
  authenticate(credentials: ICredentials): Promise<string | null>;
  validateToken(token: string, protocol?: TRegistryProtocol): Promise<IAuthToken | null>;
  createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): Promise<string>;
  revokeToken(token: string): Promise<void>;
  authorize(token: IAuthToken | null, resource: string, action: string): Promise<boolean>;
  listUserTokens(userId: string): Promise<ITokenInfo[]>;
}

// ---- storage ---------------------------------------------------------------------------------------------------------------------

/** What is known of an object when a hook is asked. */
export interface IStorageMetadata {
  contentType?: string;
  /** Bytes. */
  size?: number;
  /** `sha256:…`, where it is known. */
  digest?: string;
  /** The package or repository that the object belongs to. */
  packageName?: string;
  /** The version or tag. */
  version?: string;
}

/** What happens to which object, and by whom. */
export interface IStorageHookContext {
  operation: 'put' | 'delete' | 'get';
  /** Full key of the object. */
  key: string;
  protocol: TRegistryProtocol;
  /** Of the request that does it. */
  actor?: IRequestActor;
  metadata?: IStorageMetadata;
  timestamp: Date;
}

/** Whether an object may be written. */
export interface IBeforePutResult {
  /** `false` answers the request with 403; nothing is left behind. */
  allowed: boolean;
  /** Shown to the client. */
  reason?: string;
}

/** Whether an object may be deleted. */
export interface IBeforeDeleteResult {
  /** `false` answers the request with 403. */
  allowed: boolean;
  /** Shown to the client. */
  reason?: string;
}

/** A `before` that throws, or takes longer than `limits.hookTimeoutMs`, denies; an `after` that does is logged. */
export interface IStorageHooks {
  /** Asked before an object is written, with its size where that is known. */
  beforePut?(context: IStorageHookContext): MaybePromise<IBeforePutResult>;
  /** Told once an object is there. */
  afterPut?(context: IStorageHookContext): MaybePromise<void>;
  /** Asked before an object is deleted. */
  beforeDelete?(context: IStorageHookContext): MaybePromise<IBeforeDeleteResult>;
  /** Told once an object is gone. */
  afterDelete?(context: IStorageHookContext): MaybePromise<void>;
  /** Told of every object that a user reads. */
  afterGet?(context: IStorageHookContext): MaybePromise<void>;
}

/** What is known of a stored object. */
export interface IObjectMetadata {
  key: string;
  /** Bytes. */
  size: number;
  /** Changes with the content. */
  etag: string;
  lastModified: Date;
  contentType?: string;
  /** What was given with it, by name. */
  metadata: Record<string, string>;
}

/** The objects of a registry. Keys of user data follow the layout of the replaced package: `npm/packages/{name}/index.json`, `oci/blobs/sha256/{hash}`. */
export declare class RegistryStorage {
  /** The one of a registry comes from `getStorage()`. One made here opens the same data on its own, with hooks of its own. */
  constructor(config: IStorageConfig, hooks?: IStorageHooks);
  /** Connects, and makes the bucket where it is missing. Idempotent. */
  init(): Promise<void>;
  /** The whole object; null if there is none. */
  getObject(key: string): Promise<Buffer | null>;
  /** The object as a stream; null if there is none. */
  getObjectStream(key: string): Promise<TResponseBody | null>;
  /** Writes an object whole: nobody sees half of it. Storage hooks are asked, as for what a user does. */
  putObject(key: string, data: Buffer | Uint8Array | string | TBodyStream, metadata?: { contentType?: string } & Record<string, string | undefined>): Promise<void>;
  /** Writes only where there is nothing; false if there is something. */
  createObject(key: string, data: Buffer | Uint8Array | string): Promise<boolean>;
  /** Deletes an object; one that is not there is fine. */
  deleteObject(key: string): Promise<void>;
  /** Every key that begins with `prefix`, in order. */
  listObjects(prefix?: string): Promise<string[]>;
  objectExists(key: string): Promise<boolean>;
  /** What is known of an object; null if there is none. */
  getMetadata(key: string): Promise<IObjectMetadata | null>;
}

// ---- upstream --------------------------------------------------------------------------------------------------------------------

/** What an upstream is shown. It never goes to another host that the upstream redirects to. */
export interface IUpstreamAuthConfig {
  type: 'none' | 'basic' | 'bearer' | 'api-key';
  /** `basic`. */
  username?: string;
  /** `basic`. */
  password?: string;
  /** `bearer`; with a `username` and an OCI upstream, the password for its token endpoint. */
  token?: string;
  /** `api-key`: the header's name. */
  headerName?: string;
  /** `api-key`: what stands in it. */
  headerValue?: string;
  /** OCI: further hosts whose token endpoints may be shown the credentials. */
  tokenHosts?: string[];
}

/** Which names an upstream is asked for. */
export interface IUpstreamScopeRule {
  /** A glob over names: `@acme/*`. */
  pattern: string;
  action: 'include' | 'exclude';
}

/** How long an upstream's answers are kept. What an upstream does not say is taken from its protocol's, then from the default. */
export interface IUpstreamCacheConfig {
  /** Whether anything is kept; on by default. */
  enabled?: boolean;
  /** Seconds for which a document is fresh; 300 by default. */
  defaultTtlSeconds?: number;
  /** Seconds for which something is fresh that never changes under its name; 30 days by default. */
  immutableTtlSeconds?: number;
  /** Whether what is no longer fresh is served while it is asked for again; on by default. */
  staleWhileRevalidate?: boolean;
  /** For how many seconds after it was fresh; 3600 by default. */
  staleMaxAgeSeconds?: number;
  /** For how many seconds something is served, after it was fresh, while its upstream fails; 30 days by default. */
  staleIfErrorSeconds?: number;
  /** For how many seconds it is believed that something is not there; 60 by default. */
  negativeCacheTtlSeconds?: number;
}

/** What of an upstream is let through. */
export interface IUpstreamPolicyConfig {
  /** Seconds that a version must have been out; 0 by default. */
  minimumReleaseAgeSeconds?: number;
  /** Names for which no age is asked. */
  minimumReleaseAgeExclude?: string[];
  /** Names that are let through; all without it. */
  allow?: string[];
  /** What is not let through: names (globs), and of these a range of versions, or all. Clients are told the reason. */
  block?: { name: string; versions?: string; reason?: string }[];
}

/** How hard an upstream is tried. What an upstream does not say is taken from its protocol's, then from the default. */
export interface IUpstreamResilienceConfig {
  /** Milliseconds for a connection, for the head of an answer after that, and for each silence within its body; 30,000 by default. */
  timeoutMs?: number;
  /** Further tries after a failed one; 3 by default. */
  maxRetries?: number;
  /** Milliseconds before the first of them, doubled for each, with jitter; 1000 by default. */
  retryDelayMs?: number;
  /** Milliseconds that a delay does not exceed; 30,000 by default. */
  retryMaxDelayMs?: number;
  /** Failures in a row after which an upstream is left alone; 5 by default. */
  circuitBreakerThreshold?: number;
  /** Milliseconds for which it is left alone, before one request tries it; 30,000 by default. */
  circuitBreakerResetMs?: number;
}

/** One registry elsewhere. */
export interface IUpstreamRegistryConfig {
  /** Its name in metrics, logs and what is cached: unique, and kept when the URL changes. */
  id: string;
  /** Its base URL. */
  url: string;
  /** Lower is asked first. */
  priority: number;
  enabled: boolean;
  /** For which names it is asked. An `exclude` that matches always wins; with any `include`, one must match. */
  scopeRules?: IUpstreamScopeRule[];
  auth?: IUpstreamAuthConfig;
  cache?: IUpstreamCacheConfig;
  resilience?: IUpstreamResilienceConfig;
  policy?: IUpstreamPolicyConfig;
  /** An HTTP proxy through which it is reached. */
  proxy?: string;
  /** A file with certificates (PEM) to trust besides those of the platform and of `NODE_EXTRA_CA_CERTS`. */
  caFile?: string;
  /** Whether it may redirect to hosts with private addresses; by default if its own host has one. */
  allowPrivateAddresses?: boolean;
  /** OCI: the name that clients know it by (`docker.io`); its host unless given. */
  namespace?: string;
}

/** What a protocol takes from elsewhere. */
export interface IProtocolUpstreamConfig {
  enabled: boolean;
  /** Asked in the order of their `priority`; the first that has a name answers. */
  upstreams: IUpstreamRegistryConfig[];
  /** For upstreams that say nothing of their own. */
  cache?: IUpstreamCacheConfig;
  /** For upstreams that say nothing of their own. */
  resilience?: IUpstreamResilienceConfig;
  /** For upstreams that say nothing of their own. */
  policy?: IUpstreamPolicyConfig;
  /** Names that are never asked for outside, whether anything of that name is here or not. */
  private?: string[];
  /** Names whose own versions and those of an upstream are shown as one package; own versions win. Not for a provider of one's own. */
  merge?: string[];
  /** Whether a name that exists upstream may be published here for the first time; no by default, and the publish is refused. */
  allowShadowing?: boolean;
}

/** What is looked for, and by whom. */
export interface IUpstreamResolutionContext {
  protocol: TRegistryProtocol;
  /** The package or repository. */
  resource: string;
  /** The part of the name that an organisation owns: `@acme`. Null for none. */
  scope?: string | null;
  /** Of the request. */
  actor?: IRequestActor;
  /** Of the request. */
  method: string;
  /** What of the resource: `packument`, `tarball`, `manifest`, `blob`, … */
  resourceType: string;
}

/** Says for each request what is asked elsewhere. One that throws, or takes more than ten seconds, answers the request with 500, and nothing is asked. */
export interface IUpstreamProvider {
  /** Null for nothing. */
  resolveUpstreamConfig(context: IUpstreamResolutionContext): MaybePromise<IProtocolUpstreamConfig | null>;
}

/** Gives each protocol the same upstreams for every request. */
export declare class StaticUpstreamProvider implements IUpstreamProvider {
  constructor(byProtocol: Partial<Record<TRegistryProtocol, IProtocolUpstreamConfig>>);
  resolveUpstreamConfig(context: IUpstreamResolutionContext): Promise<IProtocolUpstreamConfig | null>;
}

/** Stops asking an upstream that fails, and tries it again after a while with one request. */
export declare class CircuitBreaker {
  /** Of the second argument `circuitBreakerThreshold` and `circuitBreakerResetMs` count. */
  constructor(id: string, resilience?: IUpstreamResilienceConfig);
  readonly id: string;
  getState(): 'CLOSED' | 'OPEN' | 'HALF_OPEN';
  /** Whether a request may be made now. Half open, one may, whose outcome is then to be recorded; if it is not within `circuitBreakerResetMs`, another may. */
  canRequest(): boolean;
  recordSuccess(): void;
  recordFailure(): void;
  reset(): void;
}

/** Keeps what upstreams answered, in this process's memory. */
export declare class UpstreamCache {
  /** `limit`: entries that are kept, those used last; 10,000 by default. */
  constructor(config?: IUpstreamCacheConfig, limit?: number);
  readonly size: number;
  isEnabled(): boolean;
  /** The entry, `stale` when it should be asked for again, `negative` when it says that there is nothing; null if there is none worth having. */
  get(key: string): { data: any; contentType?: string; etag?: string; stale: boolean; negative: boolean } | null;
  set(key: string, data: any, options?: { contentType?: string; etag?: string; immutable?: boolean; ttlSeconds?: number }): void;
  /** Remembers that there is nothing. */
  setNegative(key: string): void;
  /** Forgets an entry; whether there was one. */
  invalidate(key: string): boolean;
  clear(): void;
}

// ---- the registry ----------------------------------------------------------------------------------------------------------------

/** The handler of one protocol, as `getRegistry()` gives it. */
declare class BaseRegistry {
  protected constructor();
  readonly protocol: TRegistryProtocol;
  init(): Promise<void>;
  getBasePath(): string;
  /** The path is the full one, base path included. */
  handleRequest(context: IRequestInput): Promise<IResponse>;
}

export declare class OciRegistry extends BaseRegistry {}
export declare class NpmRegistry extends BaseRegistry {}
export declare class MavenRegistry extends BaseRegistry {}
export declare class CargoRegistry extends BaseRegistry {}
export declare class ComposerRegistry extends BaseRegistry {}
export declare class PypiRegistry extends BaseRegistry {}
export declare class RubyGemsRegistry extends BaseRegistry {}

/** Which class stands for which protocol. */
export interface IRegistryClasses {
  oci: OciRegistry;
  npm: NpmRegistry;
  maven: MavenRegistry;
  cargo: CargoRegistry;
  composer: ComposerRegistry;
  pypi: PypiRegistry;
  rubygems: RubyGemsRegistry;
}

/** Bounds of the listener; times in milliseconds. */
export interface IHttpLimits {
  /** Connections at a time; more wait in the operating system's queue. 10,000 by default. */
  maxConnections?: number;
  /** Bytes of a request's line and headers; beyond: 431. 64 KiB by default. */
  maxHeaderBytes?: number;
  /** From the first byte of a request to the end of its headers; 30,000 by default. */
  headerTimeoutMs?: number;
  /** How long a connection without a request is kept; 75,000 by default. */
  idleTimeoutMs?: number;
  /** How long a client may neither send the body it announced nor take the body it asked for; 60,000 by default. */
  stallTimeoutMs?: number;
  /** Bytes of a body that are read and dropped after an early answer (401, 413), so that the client gets to see it; 64 MiB by default. */
  drainBytes?: number;
  /** HTTP/2 requests at a time on one connection; 256 by default. */
  maxStreams?: number;
  /** How long `close()` waits for running requests; 30,000 by default. */
  closeTimeoutMs?: number;
  /** How often the certificate files are looked at; 10,000 by default. */
  tlsReloadMs?: number;
}

/** Where and how the native listener listens. */
export interface IListenOptions {
  /** 0 (default) picks a free one. */
  port?: number;
  /** `127.0.0.1` by default. */
  host?: string;
  /** PEM text or the names of PEM files; files are read again when they change. */
  tls?: { cert: string | Buffer; key: string | Buffer };
  /** Bounds of connections. */
  limits?: IHttpLimits;
}

/** The native listener. It keeps the process alive until it is closed, or let go by `unref()`. */
export interface Server {
  readonly url: string;
  readonly port: number;
  /** Stops accepting, lets what runs finish, then resolves. */
  close(): Promise<void>;
  /** Reads the certificate files again, now. */
  reloadTls(): Promise<void>;
  /** Keeps the process alive again. */
  ref(): this;
  /** Lets the process end although this still listens. */
  unref(): this;
}

/** How to collect. */
export interface IGcOptions {
  /** Only say what would be removed. */
  dryRun?: boolean;
  /** Called now and then with how far it is. */
  onProgress?: (standing: IProgress) => void;
}

/** How to verify. */
export interface IVerifyOptions {
  /** Look only whether objects are there and how large they are, and read none of them. */
  shallow?: boolean;
  /** First make the index of names, changes and searches anew from what is in the bucket. */
  rebuildIndex?: boolean;
  /** Called now and then with how far it is. */
  onProgress?: (standing: IProgress) => void;
}

/** What a verification has looked at and found. */
export interface IVerifyReport {
  /** Packages and repositories. */
  names: number;
  objects: number;
  /** Bytes that were read. */
  bytes: number;
  problems: number;
  /** The first ten thousand problems. */
  findings: { protocol: TRegistryProtocol; name: string; key: string; problem: string }[];
}

/** What to import, and from where. */
export interface IImportOptions {
  protocol: 'npm' | 'oci';
  /** URL of a registry; npm: also the storage folder of a verdaccio. */
  from: string;
  /** Only these packages or repositories; all without it. */
  names?: string[];
  /** npm: what the source is asked with. */
  token?: string;
  /** OCI: who asks the source. */
  username?: string;
  password?: string;
  /** Who imports; `import` by default. */
  as?: string;
  /** Called now and then with how far it is. */
  onProgress?: (standing: IProgress) => void;
}

/** What an import did. */
export interface IImportReport {
  /** Packages or repositories. */
  names: number;
  /** Versions or manifests that are new here. */
  imported: number;
  /** Versions or blobs that were here already. */
  present: number;
  /** npm: versions of which the source has no tarball. */
  missing?: number;
  /** OCI: bytes of blobs. */
  bytes?: number;
  /** What could not be imported, and why. */
  problems: { name: string; version?: string; problem: string }[];
}

/** So many objects, and so many bytes in them. */
export interface IAmount {
  objects: number;
  bytes: number;
}

/** How much a registry has. */
export interface IRegistryStats {
  protocols: Record<string, { names: number; changes: number; folders: Record<string, IAmount> }>;
  /** What the registry keeps for itself: indices, links, tokens, sessions. */
  private: IAmount;
  total: IAmount;
}

/** A change that has happened: the events of {@link IWebhookConfig}. */
export interface IRegistryEvent {
  /** Place in the feed of the protocol. */
  serial: number;
  /** Milliseconds since 1970. */
  time: number;
  event: string;
  /** The package or repository. */
  name: string;
  /** The version, tag or digest that it is about. */
  version: string | null;
  actor: string | null;
  /** Whether nothing is left under the name. */
  gone: boolean;
}

/** How far a long work is. */
export interface IProgress {
  /** For people; empty before the beginning. */
  phase: string;
  done: number;
  total?: number | null;
}

/** What a collection has removed; in a dry run, what it would remove. */
export interface IGcReport {
  dryRun: boolean;
  durationMs: number;
  protocols: { oci?: IGcProtocolReport };
}

/** What a collection did in one protocol. */
export interface IGcProtocolReport {
  /** How many things were looked at, by kind. */
  examined: Record<string, number>;
  /** How many went, by kind: `blobs`, `links`, `manifests`, `tags`, `referrers`, `repositories`. */
  removed: Record<string, number>;
  /** Bytes of the blobs among them. */
  bytes: number;
  /** The first thousand of those that a rule took, by name. */
  details: { kind: string; name: string; reason: string }[];
  /** What an operator should know. */
  warnings: string[];
}

/**
 * A registry: one object for all its protocols, over one storage. What the application calls rejects with a {@link RegistryError}; what clients ask is
 * answered, whatever goes wrong.
 */
export declare class SmartRegistry {
  /** Opens and connects nothing. Throws an error that names the wrong option of an unusable configuration. */
  constructor(config: IRegistryInput);
  /** Connects storage and auth. Idempotent. */
  init(): Promise<void>;
  /** Failures of a request are answers; it rejects only before `init()` and after `destroy()`. */
  handleRequest(context: IRequestInput): Promise<IResponse>;
  /**
   * For `node:http`, Express, Connect and middie. Calls `next` for paths of no protocol. It may be mounted at the root, below a path of the application's, or at
   * a protocol's own base path.
   */
  nodeHandler(): (req: IncomingMessage, res: ServerResponse, next?: (error?: any) => void) => void;
  /** The objects behind it. Usable once `init()` has resolved; after `destroy()` its calls reject with `code: 'DESTROYED'`. */
  getStorage(): RegistryStorage;
  /** Its users, tokens and rights. Usable once `init()` has resolved; after `destroy()` its calls reject with `code: 'DESTROYED'`. */
  getAuthManager(): AuthManager;
  /** Undefined for a protocol that is not enabled. */
  getRegistry<P extends TRegistryProtocol>(protocol: P): IRegistryClasses[P] | undefined;
  /** Starts the native listener: HTTP/1.1, HTTP/2 and TLS, with no JavaScript on the path. Rejects where the address is taken. */
  listen(options?: IListenOptions): Promise<Server>;
  /** Whether `init()` has resolved and `destroy()` has not been called. */
  isInitialized(): boolean;
  /** Removes what nothing names any more, while this and other processes serve. Rejects with `code: 'CONFLICT'` while another process is at it. */
  gc(options?: IGcOptions): Promise<IGcReport>;
  /** Looks whether all that metadata names is there and is what it should be, while this and other processes serve. */
  verify(options?: IVerifyOptions): Promise<IVerifyReport>;
  /**
   * Takes over what another registry has, content byte for byte, with times, tags and owners. What is here already stays, so it can be run again. The
   * same name with other content is a problem that is reported.
   */
  import(options: IImportOptions): Promise<IImportReport>;
  /** Removes what is cached of a protocol's upstreams, of one name or all; how many objects those were. Every process that shares the storage asks again. */
  purgeUpstream(protocol: TRegistryProtocol, name?: string): Promise<number>;
  /** Fetches something of an upstream ahead of the first who asks for it (`lodash@^4`, `library/nginx:1.27`); how many files were fetched. */
  warmUpstream(protocol: TRegistryProtocol, name: string): Promise<number>;
  /** Counts what there is: one request to the store for each thousand objects. */
  stats(): Promise<IRegistryStats>;
  /**
   * What has happened, oldest first; `since` is the `last` of the answer before. Single events are kept for the last five hundred changes at least;
   * `gap` says that some may be missing.
   */
  events(protocol: TRegistryProtocol, options?: { since?: number }): Promise<{ events: IRegistryEvent[]; last: number; gap: boolean }>;
  /** The numbers of this registry, as Prometheus reads them. */
  metrics(): string;
  /** Lets go of sockets, timers and callbacks, so that the process can end. A second call is fine. */
  destroy(): Promise<void>;
}

// ---- streams ---------------------------------------------------------------------------------------------------------------------

/** The whole of a stream; empty for no body. */
export declare function streamToBuffer(stream: TBodyStream | null | undefined): Promise<Buffer>;
/** The whole of a stream, parsed as JSON. */
export declare function streamToJson<T = any>(stream: TBodyStream | null | undefined): Promise<T>;
/**
 * A stream of anything: bytes and text as they are, a Web stream itself, what a Node stream, a `Blob` or an async iterable yields (with backpressure; `cancel()`
 * closes it), any other value as JSON.
 */
export declare function toReadableStream(data: Buffer | Uint8Array | string | TBodyStream | object): TResponseBody;
/** Whether something is a Web stream. */
export declare function isReadableStream(value: unknown): value is TResponseBody;

// Nothing else of this file is public.
export {};
