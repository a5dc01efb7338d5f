// Imports repositories from any OCI registry by URL: every tag, what it names, and what refers to that.
'use strict';

const { ask, bounded, each, local } = require('./source.cjs');

/** Repositories, and blobs of an image, at the same time. */
const AT_ONCE = 2;
const BLOBS_AT_ONCE = 3;

const MANIFESTS = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.artifact.manifest.v1+json',
].join(', ');

/** Largest manifest or list of another registry, in bytes. */
const DOCUMENT = 32 << 20;

/** What another registry may call a repository, and a tag or a digest: it becomes part of our paths. */
const NAME = /^[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/;
const REFERENCE = /^(?:\w[\w.-]{0,127}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

function checked(text, form) {
  if (typeof text !== 'string' || !form.test(text)) throw new Error(`the source names ${JSON.stringify(text)?.slice(0, 200)}, which is no good name`);
  return text;
}

/** Asks a registry, with a token for each repository where it wants one. */
class Remote {
  #tokens = new Map();

  /** @param {string} url @param {{ username?: string, password?: string }} options */
  constructor(url, { username, password } = {}) {
    this.base = url.replace(/\/*$/, '/');
    this.basic = username === undefined ? undefined : `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}`;
  }

  /**
   * @param {string} path below `/v2/`, or a link
   * @param {string} key what the token is for
   * @param {{ accept?: string, fine?: number[] }} [options]
   */
  async get(path, key, { accept, fine = [] } = {}) {
    const url = new URL(path.startsWith('/') ? path : `v2/${path}`, this.base).href;
    /** @type {Record<string, string>} */
    const headers = accept ? { accept } : {};
    const authorization = this.#tokens.get(key) ?? this.basic;
    const first = await ask(url, { headers: authorization ? { ...headers, authorization } : headers, fine: [...fine, 401] });
    if (first.status !== 401) return first;
    await first.body?.cancel();
    const token = await this.#token(first.headers.get('www-authenticate') ?? '');
    this.#tokens.set(key, token);
    return ask(url, { headers: { ...headers, authorization: token }, fine });
  }

  /** Exchanges a challenge for a token. */
  async #token(challenge) {
    if (!/^bearer /i.test(challenge)) {
      if (this.basic) return this.basic;
      throw new Error(`${new URL(this.base).host} wants a login`);
    }
    const fields = Object.fromEntries([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    const url = new URL(fields.realm, this.base);
    for (const name of ['service', 'scope']) if (fields[name]) url.searchParams.set(name, fields[name]);
    const { token, access_token: other } = await (await ask(url.href, { headers: this.basic ? { authorization: this.basic } : {} })).json();
    return `Bearer ${token ?? other}`;
  }

  /** All pages of a list. */
  async *list(path, member, key) {
    for (let next = path; next; ) {
      const response = await this.get(next, key, { fine: [404] });
      if (response.status === 404) return void (await response.body?.cancel());
      yield* JSON.parse((await bounded(response, DOCUMENT)).toString())[member] ?? [];
      next = /<([^>]+)>;\s*rel="?next"?/.exec(response.headers.get('link') ?? '')?.[1];
    }
  }
}

async function all(items) {
  const list = [];
  for await (const item of items) list.push(item);
  return list;
}

/** One repository under way. */
class Repository {
  #copied = new Map();

  /**
   * @param {string} name
   * @param {{ source: Remote, here: ReturnType<typeof local>, report: any }} run
   */
  constructor(name, { source, here, report }) {
    this.name = name;
    this.source = source;
    this.here = here;
    this.report = report;
  }

  async run() {
    for await (const tag of this.source.list(`${this.name}/tags/list?n=1000`, 'tags', this.name)) {
      try {
        await this.manifest(tag);
      } catch (error) {
        this.report.problems.push({ name: this.name, version: tag, problem: error.message });
      }
    }
  }

  /** Copies a manifest with all that it needs and all that refers to it; each once. */
  async manifest(reference) {
    checked(reference, REFERENCE);
    const known = this.#copied.get(reference);
    if (known) return known;
    const copy = this.#manifest(reference);
    this.#copied.set(reference, copy);
    return copy;
  }

  async #manifest(reference) {
    const response = await this.source.get(`${this.name}/manifests/${reference}`, this.name, { accept: MANIFESTS });
    const bytes = await bounded(response, DOCUMENT);
    const type = response.headers.get('content-type')?.split(';')[0] ?? 'application/vnd.oci.image.manifest.v1+json';
    const { manifests = [], config, layers = [], blobs = [] } = JSON.parse(bytes.toString());
    for (const { digest } of manifests) await this.manifest(digest);
    const needed = new Map([config, ...layers, ...blobs].filter((one) => one && !one.urls?.length).map((one) => [one.digest, one]));
    await each(needed.values(), BLOBS_AT_ONCE, ({ digest }) => this.blob(digest));
    const answer = await this.here.send('PUT', `/v2/${this.name}/manifests/${reference}`, { headers: { 'content-type': type }, rawBody: bytes, body: bytes });
    const digest = answer.headers['Docker-Content-Digest'];
    const problem = await this.here.problem(answer);
    if (problem) throw new Error(problem);
    this.report.imported += 1;
    await this.referrers(digest);
  }

  /** Signatures and the like. What an old registry keeps under tags comes with those. */
  async referrers(digest) {
    for await (const { digest: other } of this.source.list(`${this.name}/referrers/${digest}`, 'manifests', this.name)) await this.manifest(other);
  }

  async blob(digest) {
    checked(digest, REFERENCE);
    const there = await this.here.send('HEAD', `/v2/${this.name}/blobs/${digest}`);
    if (there.status === 200) {
      this.report.present += 1;
      return;
    }
    const begun = await this.here.send('POST', `/v2/${this.name}/blobs/uploads/`);
    const refused = await this.here.problem(begun);
    if (refused) throw new Error(refused);
    const place = new URL(begun.headers.Location, 'http://localhost');
    const response = await this.source.get(`${this.name}/blobs/${digest}`, this.name);
    const done = await this.here.send('PUT', place.pathname, { query: { ...Object.fromEntries(place.searchParams), digest }, headers: { 'content-type': 'application/octet-stream' }, body: response.body });
    const problem = await this.here.problem(done);
    if (problem) throw new Error(problem);
    this.report.bytes += Number(response.headers.get('content-length') ?? 0);
  }
}

/**
 * Imports. What is here already is not fetched again, so it can be run again.
 *
 * @param {any} registry
 * @param {{ from: string, names?: string[], username?: string, password?: string, own: { headers: Record<string, string> }, onProgress?: (standing: any) => void }} options
 */
async function importOci(registry, { from, names, username, password, own, onProgress }) {
  const source = new Remote(from, { username, password });
  const here = local(registry, own.headers);
  /** @type {{ names: number, imported: number, present: number, bytes: number, problems: { name: string, version?: string, problem: string }[] }} */
  const report = { names: 0, imported: 0, present: 0, bytes: 0, problems: [] };
  const wanted = names?.length ? names : await all(source.list('_catalog?n=1000', 'repositories', '_catalog'));
  let done = 0;
  await each(wanted, AT_ONCE, async (name) => {
    try {
      await new Repository(checked(name, NAME), { source, here, report }).run();
    } catch (error) {
      report.problems.push({ name, problem: error.message });
    }
    report.names += 1;
    onProgress?.({ phase: 'repositories', done: (done += 1), total: wanted.length });
  });
  return report;
}

module.exports = { importOci };
