// The public types. `Buffer`, Node's streams and its HTTP types come from @types/node.
/// <reference types="node" />

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';

// ---- protocols -------------------------------------------------------------------------------------------------------------------

export type TRegistryProtocol = 'oci' | 'npm' | 'maven' | 'cargo' | 'composer' | 'pypi' | 'rubygems';

export type TRegistryAction = 'read' | 'write' | 'delete' | 'pull' | 'push' | 'admin' | '*';

// ---- configuration ---------------------------------------------------------------------------------------------------------------

export interface IRegistryConfig {
  storage: IStorageConfig;
  auth?: IAuthConfig;
  /** Users, tokens and rights of your own in place of the built-in ones. */
  authProvider?: IAuthProvider;
  storageHooks?: IStorageHooks;
  /** Says which upstreams are asked for what is not here; a `StaticUpstreamProvider` is configuration, anything else is asked for each request. */
  upstreamProvider?: IUpstreamProvider;
  /** The same as a `StaticUpstreamProvider`, for configuration files. */
  upstreams?: Partial<Record<TRegistryProtocol, IProtocolUpstreamConfig>>;
  /** Whose `X-Forwarded-*` and `Forwarded` headers count: everybody's, nobody's (default), or those of peers in these networks. */
  trustProxy?: boolean | string[];
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

/**
 * A receiver of events, each a POST in the form of Standard Webhooks. At least once and in order; tried again for a day. Of the processes that
 * share a bucket one delivers.
 */
export interface IWebhookConfig {
  url: string;
  /** What requests are signed with: a text, or `whsec_` and base64. Without it they are not signed. */
  secret?: string;
  /** Only these: `publish`, `unpublish`, `dist-tag`, `deprecate`, `owner`, `star`, `access` (npm); `create`, `push`, `delete` (OCI). */
  events?: string[];
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
  useSsl?: boolean | 'true' | 'false';
  /** S3: leave both keys out for the default credential chain of AWS. */
  accessKey?: string;
  accessSecret?: string;
  sessionToken?: string;
  /** S3: `us-east-1` by default. */
  region?: string;
  /** S3: created when it is missing. */
  bucketName?: string;
  /** S3: prefix of every key. */
  directoryPath?: string;
  /** S3: `auto` (default) probes and warns, `required` refuses a bucket that is not safe for many writers, `off` is for one writing process. */
  conditionalWrites?: 'auto' | 'required' | 'off';
  /** S3: answer large downloads with a redirect to a presigned URL. */
  redirectDownloads?: boolean;
}

export interface ITokensConfig {
  /** On unless switched off. */
  enabled?: boolean;
}

export interface IAuthConfig {
  /** Signs OCI tokens: 32 random bytes, the same in every process. */
  jwtSecret?: string;
  /**
   * Where users and tokens are kept; `memory` by default: they end with the process. `redis` and `database` without their URLs keep them in the
   * registry's own storage, as `storage` does.
   */
  tokenStore?: 'memory' | 'storage' | 'redis' | 'database';
  /** For `tokenStore: 'redis'`: `redis://user:password@host:6379/0`, or `rediss://…` for TLS. The last part is the number of the database. */
  redisUrl?: string;
  /** For `tokenStore: 'database'`: `postgres://user:password@host/database?sslmode=verify-full`, or `sqlite:path` of a file. */
  databaseUrl?: string;
  npmTokens?: ITokensConfig & { defaultReadonly?: boolean };
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
  /** How long answers of a custom provider are believed; 0 (default) asks every time. */
  providerCacheSeconds?: number;
  /** How long a custom provider may take for one call; ten seconds by default. */
  providerTimeoutMs?: number;
}

export interface ITrustedIssuer {
  /** `iss` of its tokens, exactly: `https://token.actions.githubusercontent.com`. */
  issuer: string;
  /** Which records of trust it can meet: `github`, `gitlab`, `circleci`, or a name of your own. */
  type: string;
  /** `aud` of its tokens; `npm:` and the host of `npm.registryUrl` unless given. */
  audience?: string;
  /** Its JWKS document, inline: RSA (RS256) and P-256 (ES256) keys. */
  jwks: { keys: Record<string, unknown>[] };
}

export interface IMaintenanceConfig {
  /** Whether this process does any by itself; on by default. One of those that share a bucket must. */
  enabled?: boolean;
  /** Milliseconds between two rounds, about; one hour by default. Of the processes that share a bucket, one does a round. */
  intervalMs?: number;
}

export interface IProtocolConfig {
  enabled: boolean;
  /** URL prefix; `/name` of the protocol by default. */
  basePath?: string;
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
  artifact?: number;
  manifest?: number;
  metadata?: number;
  packument?: number;
  smallBody?: number;
  unpacked?: number;
  cache?: number;
  uploadMemory?: number;
  metadataTtlMs?: number;
  /** How long a storage hook may take. */
  hookTimeoutMs?: number;
  /** After how long the body of an answer that nobody reads is given up. */
  bodyIdleMs?: number;
  /** OCI: manifests (signatures, SBOMs, …) that may refer to one subject; beyond it the answer is 403. */
  referrers?: number;
  /** OCI: uploads that one user may have begun and not finished; beyond it the answer is 429. */
  openUploads?: number;
}

// ---- requests and answers --------------------------------------------------------------------------------------------------------

/** Names in any case; values alone or as a list. */
export type THeaders = Record<string, string | number | readonly string[] | null | undefined> | Iterable<readonly [string, string]>;

export type TQuery = Record<string, any> | Iterable<readonly [string, string]> | string;

/** A Web stream, a Node stream, or anything that yields bytes; read with backpressure. */
export type TBodyStream = ReadableStream<Uint8Array> | NodeReadableStream<Uint8Array> | Readable | AsyncIterable<Uint8Array | string>;

export interface IRequestContext {
  /** In any case. */
  method: string;
  /** Still percent-encoded, as `req.path` of Express. */
  path: string;
  headers?: THeaders;
  query?: TQuery;
  /** Bytes, text, a stream, a parsed JSON value, or the fields of a parsed form. */
  body?: Buffer | Uint8Array | ArrayBuffer | string | TBodyStream | Blob | FormData | URLSearchParams | Record<string, any> | readonly any[] | null;
  /** The exact bytes of a body that is given parsed too; they win. */
  rawBody?: Buffer | Uint8Array;
  /** A bearer token that came outside the headers. */
  token?: string;
  actor?: IRequestActor;
}

/** Who asks, as the host application knows it; handed on to hooks and never trusted for access. */
export interface IRequestActor {
  userId?: string;
  tokenId?: string;
  ip?: string;
  userAgent?: string;
  orgId?: string;
  sessionId?: string;
  [more: string]: unknown;
}

/** Of both worlds: taken by `Readable.fromWeb`, `new Response` and `for await`, with and without the DOM library. */
export type TResponseBody = ReadableStream<Uint8Array> & NodeReadableStream<Uint8Array>;

export interface IResponse {
  status: number;
  /** In canonical case: `ETag`, `WWW-Authenticate`, `Docker-Upload-UUID`. */
  headers: Record<string, string>;
  /** Nothing for 204, 304 and HEAD. */
  body?: TResponseBody;
  /** A reason phrase of our own, for clients that show nothing else. */
  statusText?: string;
}

export interface IRegistryError {
  code: string;
  message: string;
  detail?: any;
}

/** What every failure of this library throws or rejects with. */
export declare class RegistryError extends Error implements IRegistryError {
  constructor(message: string, details?: { code?: string; status?: number; option?: string; cause?: unknown });
  code: string;
  /** The HTTP status that fits. */
  status: number;
  /** The option of the configuration that is wrong, if it is one. */
  option?: string;
}

// ---- auth ------------------------------------------------------------------------------------------------------------------------

export interface ICredentials {
  username: string;
  password: string;
  otp?: string;
}

export interface IAuthToken {
  /** The protocol it was made for. */
  type?: TRegistryProtocol;
  userId: string;
  /** `{protocol}:{type}:{name}:{action}` with `*` per field. */
  scopes: string[];
  readonly?: boolean;
  expiresAt?: Date;
  metadata?: Record<string, any>;
}

/** A token as lists show it: never its text. */
export interface ITokenInfo extends IAuthToken {
  key?: string;
  /** Its first characters. */
  hint?: string;
  protocol?: TRegistryProtocol;
  name?: string;
  /** ISO 8601. */
  created?: string;
  lastUsed?: Date;
}

export interface ITokenOptions {
  protocol?: TRegistryProtocol;
  readonly?: boolean;
  /** Everything of the protocol by default. */
  scopes?: string[];
  /** Never by default. */
  expiresAt?: Date;
  /** Seconds from now; wins over `expiresAt`. */
  expiresIn?: number;
  /** Networks it may be used from. */
  cidr?: string[];
  name?: string;
  metadata?: Record<string, any>;
}

type MaybePromise<T> = T | Promise<T>;

/** Users, tokens and rights of the application. A call that throws, or takes too long, grants nothing and is answered with 500. */
export interface IAuthProvider {
  init?(): MaybePromise<void>;
  /** The user's id, if the password is right. */
  authenticate(credentials: ICredentials): MaybePromise<string | null>;
  validateToken(token: string, protocol?: TRegistryProtocol): MaybePromise<IAuthToken | null>;
  createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): MaybePromise<string>;
  revokeToken(token: string): MaybePromise<void>;
  /** `resource` reads `npm:package:my-package`; `token` is null for nobody. */
  authorize(token: IAuthToken | null, resource: string, action: string): MaybePromise<boolean>;
  listUserTokens?(userId: string): MaybePromise<IAuthToken[]>;
}

export declare class AuthManager {
  /** The one of a registry comes from `getAuthManager()`. One made here keeps users and tokens in this process. */
  constructor(config?: IAuthConfig);
  init(): Promise<void>;
  /** Null for a wrong password. An unknown user name is registered. */
  authenticate(credentials: ICredentials): Promise<string | null>;
  createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): Promise<string>;
  /** A signed token (JWT). */
  createOciToken(userId: string, scopes: string[], expiresInSeconds?: number): Promise<string>;
  createNpmToken(userId: string, readonly?: boolean): Promise<string>;
  createMavenToken(userId: string, readonly?: boolean): Promise<string>;
  createCargoToken(userId: string, readonly?: boolean): Promise<string>;
  createComposerToken(userId: string, readonly?: boolean): Promise<string>;
  createPypiToken(userId: string, readonly?: boolean): Promise<string>;
  createRubyGemsToken(userId: string, readonly?: boolean): Promise<string>;
  validateToken(token: string, protocol?: TRegistryProtocol): Promise<IAuthToken | null>;
  validateOciToken(token: string): Promise<IAuthToken | null>;
  validateNpmToken(token: string): Promise<IAuthToken | null>;
  validateMavenToken(token: string): Promise<IAuthToken | null>;
  validateCargoToken(token: string): Promise<IAuthToken | null>;
  validateComposerToken(token: string): Promise<IAuthToken | null>;
  validatePypiToken(token: string): Promise<IAuthToken | null>;
  validateRubyGemsToken(token: string): Promise<IAuthToken | null>;
  authorize(token: IAuthToken | null, resource: string, action: TRegistryAction | string): Promise<boolean>;
  revokeToken(token: string): Promise<void>;
  revokeOciToken(token: string): Promise<void>;
  revokeNpmToken(token: string): Promise<void>;
  revokeMavenToken(token: string): Promise<void>;
  revokeCargoToken(token: string): Promise<void>;
  revokeComposerToken(token: string): Promise<void>;
  revokePypiToken(token: string): Promise<void>;
  revokeRubyGemsToken(token: string): Promise<void>;
  listUserTokens(userId: string): Promise<ITokenInfo[]>;
  getUserTokens(userId: string): Promise<ITokenInfo[]>;
}

/** The built-in provider, to be wrapped or extended. Made by itself it keeps users and tokens in this process. */
export declare class DefaultAuthProvider implements IAuthProvider {
  constructor(config?: IAuthConfig);
  init(): Promise<void>;
  authenticate(credentials: ICredentials): Promise<string | null>;
  validateToken(token: string, protocol?: TRegistryProtocol): Promise<IAuthToken | null>;
  createToken(userId: string, protocol: TRegistryProtocol, options?: ITokenOptions): Promise<string>;
  revokeToken(token: string): Promise<void>;
  authorize(token: IAuthToken | null, resource: string, action: string): Promise<boolean>;
  listUserTokens(userId: string): Promise<ITokenInfo[]>;
}

// ---- storage ---------------------------------------------------------------------------------------------------------------------

export interface IStorageMetadata {
  contentType?: string;
  /** Bytes. */
  size?: number;
  digest?: string;
  packageName?: string;
  version?: string;
}

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

export interface IBeforePutResult {
  allowed: boolean;
  /** Shown to the client. */
  reason?: string;
}

export interface IBeforeDeleteResult {
  allowed: boolean;
  reason?: string;
}

/** A `before` that throws denies; an `after` that throws is logged. */
export interface IStorageHooks {
  beforePut?(context: IStorageHookContext): MaybePromise<IBeforePutResult>;
  afterPut?(context: IStorageHookContext): MaybePromise<void>;
  beforeDelete?(context: IStorageHookContext): MaybePromise<IBeforeDeleteResult>;
  afterDelete?(context: IStorageHookContext): MaybePromise<void>;
  afterGet?(context: IStorageHookContext): MaybePromise<void>;
}

/** What is known of a stored object. */
export interface IObjectMetadata {
  key: string;
  size: number;
  etag: string;
  lastModified: Date;
  contentType?: string;
  metadata: Record<string, string>;
}

export declare class RegistryStorage {
  /** The one of a registry comes from `getStorage()`. One made here opens the same data on its own. */
  constructor(config: IStorageConfig);
  init(): Promise<void>;
  getObject(key: string): Promise<Buffer | null>;
  getObjectStream(key: string): Promise<TResponseBody | null>;
  putObject(key: string, data: Buffer | Uint8Array | string | TBodyStream, metadata?: { contentType?: string } & Record<string, string | undefined>): Promise<void>;
  /** Writes only where there is nothing; false if there is something. */
  createObject(key: string, data: Buffer | Uint8Array | string): Promise<boolean>;
  deleteObject(key: string): Promise<void>;
  listObjects(prefix?: string): Promise<string[]>;
  objectExists(key: string): Promise<boolean>;
  getMetadata(key: string): Promise<IObjectMetadata | null>;
}

// ---- upstream --------------------------------------------------------------------------------------------------------------------

export interface IUpstreamAuthConfig {
  type: 'none' | 'basic' | 'bearer' | 'api-key';
  username?: string;
  password?: string;
  token?: string;
  headerName?: string;
  headerValue?: string;
  /** OCI: further hosts whose token endpoints may be shown the credentials. */
  tokenHosts?: string[];
}

export interface IUpstreamScopeRule {
  pattern: string;
  action: 'include' | 'exclude';
}

export interface IUpstreamCacheConfig {
  enabled?: boolean;
  defaultTtlSeconds?: number;
  immutableTtlSeconds?: number;
  staleWhileRevalidate?: boolean;
  staleMaxAgeSeconds?: number;
  /** For how long something is served, after it was fresh, while its upstream fails. */
  staleIfErrorSeconds?: number;
  negativeCacheTtlSeconds?: number;
}

/** What of an upstream is let through. */
export interface IUpstreamPolicyConfig {
  /** Seconds that a version must have been out. */
  minimumReleaseAgeSeconds?: number;
  /** Names for which no age is asked. */
  minimumReleaseAgeExclude?: string[];
  /** Names that are let through; all without it. */
  allow?: string[];
  /** What is not let through: names (globs), and of these a range of versions, or all. Clients are told the reason. */
  block?: { name: string; versions?: string; reason?: string }[];
}

export interface IUpstreamResilienceConfig {
  timeoutMs?: number;
  maxRetries?: number;
  retryDelayMs?: number;
  retryMaxDelayMs?: number;
  circuitBreakerThreshold?: number;
  circuitBreakerResetMs?: number;
}

export interface IUpstreamRegistryConfig {
  id: string;
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
  /** Whether it may redirect to hosts with private addresses; by default if its own host has one. */
  allowPrivateAddresses?: boolean;
  /** OCI: the name that clients know it by (`docker.io`); its host unless given. */
  namespace?: string;
}

export interface IProtocolUpstreamConfig {
  enabled: boolean;
  upstreams: IUpstreamRegistryConfig[];
  cache?: IUpstreamCacheConfig;
  resilience?: IUpstreamResilienceConfig;
  policy?: IUpstreamPolicyConfig;
  /** Names that are never asked for outside, whether anything of that name is here or not. */
  private?: string[];
  /** Names whose own versions and those of an upstream are shown as one package; own versions win. Not for a provider of one's own. */
  merge?: string[];
  /** Whether a name that exists upstream may be published here for the first time. */
  allowShadowing?: boolean;
}

export interface IUpstreamResolutionContext {
  protocol: TRegistryProtocol;
  resource: string;
  scope?: string | null;
  actor?: IRequestActor;
  method: string;
  resourceType: string;
}

export interface IUpstreamProvider {
  resolveUpstreamConfig(context: IUpstreamResolutionContext): MaybePromise<IProtocolUpstreamConfig | null>;
}

/** Gives each protocol the same upstreams for every request. */
export declare class StaticUpstreamProvider implements IUpstreamProvider {
  constructor(byProtocol: Partial<Record<TRegistryProtocol, IProtocolUpstreamConfig>>);
  resolveUpstreamConfig(context: IUpstreamResolutionContext): Promise<IProtocolUpstreamConfig | null>;
}

/** Stops asking an upstream that fails, and tries it again after a while with one request. */
export declare class CircuitBreaker {
  constructor(id: string, resilience?: IUpstreamResilienceConfig);
  readonly id: string;
  getState(): 'CLOSED' | 'OPEN' | 'HALF_OPEN';
  canRequest(): boolean;
  recordSuccess(): void;
  recordFailure(): void;
  reset(): void;
}

/** Keeps what upstreams answered, in this process's memory. */
export declare class UpstreamCache {
  constructor(config?: IUpstreamCacheConfig, limit?: number);
  readonly size: number;
  isEnabled(): boolean;
  get(key: string): { data: any; contentType?: string; etag?: string; stale: boolean; negative: boolean } | null;
  set(key: string, data: any, options?: { contentType?: string; etag?: string; immutable?: boolean; ttlSeconds?: number }): void;
  setNegative(key: string): void;
  invalidate(key: string): boolean;
  clear(): void;
}

// ---- the registry ----------------------------------------------------------------------------------------------------------------

declare class BaseRegistry {
  protected constructor();
  readonly protocol: TRegistryProtocol;
  init(): Promise<void>;
  getBasePath(): string;
  /** The path is the full one, base path included. */
  handleRequest(context: IRequestContext): Promise<IResponse>;
}

export declare class OciRegistry extends BaseRegistry {}
export declare class NpmRegistry extends BaseRegistry {}
export declare class MavenRegistry extends BaseRegistry {}
export declare class CargoRegistry extends BaseRegistry {}
export declare class ComposerRegistry extends BaseRegistry {}
export declare class PypiRegistry extends BaseRegistry {}
export declare class RubyGemsRegistry extends BaseRegistry {}

interface IRegistryClasses {
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
  maxConnections?: number;
  maxHeaderBytes?: number;
  headerTimeoutMs?: number;
  idleTimeoutMs?: number;
  stallTimeoutMs?: number;
  drainBytes?: number;
  maxStreams?: number;
  closeTimeoutMs?: number;
  tlsReloadMs?: number;
}

export interface IListenOptions {
  /** 0 (default) picks a free one. */
  port?: number;
  /** `127.0.0.1` by default. */
  host?: string;
  /** PEM text or the names of PEM files; files are read again when they change. */
  tls?: { cert: string | Buffer; key: string | Buffer };
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
  ref(): this;
  unref(): this;
}

export interface IGcOptions {
  /** Only say what would be removed. */
  dryRun?: boolean;
  /** Called now and then with how far it is. */
  onProgress?: (standing: IProgress) => void;
}

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

export declare class SmartRegistry {
  /** Opens and connects nothing. Throws an error that names the wrong option of an unusable configuration. */
  constructor(config: IRegistryConfig);
  /** Connects storage and auth. Idempotent. */
  init(): Promise<void>;
  /** Failures of a request are answers; it rejects only before `init()` and after `destroy()`. */
  handleRequest(context: IRequestContext): Promise<IResponse>;
  /** For `node:http`, Express, Connect and middie. Calls `next` for paths of no protocol. */
  nodeHandler(): (req: IncomingMessage, res: ServerResponse, next?: (error?: any) => void) => void;
  getStorage(): RegistryStorage;
  getAuthManager(): AuthManager;
  /** Undefined for a protocol that is not enabled. */
  getRegistry<P extends TRegistryProtocol>(protocol: P): IRegistryClasses[P] | undefined;
  listen(options?: IListenOptions): Promise<Server>;
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
  destroy(): Promise<void>;
}

// ---- streams ---------------------------------------------------------------------------------------------------------------------

/** The whole of a stream; empty for no body. */
export declare function streamToBuffer(stream: TBodyStream | null | undefined): Promise<Buffer>;
/** The whole of a stream, parsed as JSON. */
export declare function streamToJson<T = any>(stream: TBodyStream | null | undefined): Promise<T>;
/** A stream of anything: bytes and text as they are, any other value as JSON. */
export declare function toReadableStream(data: Buffer | Uint8Array | string | object): TResponseBody;
export declare function isReadableStream(value: unknown): value is TResponseBody;

// Nothing else of this file is public.
export {};
