// Imports packages: from the storage folder of a verdaccio, or from any npm registry by URL.
'use strict';

const { createReadStream } = require('node:fs');
const { readdir, readFile, stat } = require('node:fs/promises');
const { join } = require('node:path');
const { ask, bounded, each, local } = require('./source.cjs');

/** Packages at the same time. */
const AT_ONCE = 4;
/** Changes or search results of one answer. */
const PAGE = 250;
/** Largest document of another registry, in bytes. */
const DOCUMENT = 256 << 20;
/** What of a document is taken over once its versions are here. */
const TAKEN = ['name', 'dist-tags', 'time', 'maintainers', 'users', 'readme'];

/** A name from outside as one segment of a path. */
const encode = (name) => encodeURIComponent(name);
const ignoreMissing = (error) => {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
};

/** The folder of a verdaccio: a folder for each package, in it `package.json` and the tarballs that it has. */
class Folder {
  /** @param {string} folder */
  constructor(folder) {
    this.folder = folder;
  }

  async names() {
    const folders = async (place) => (await readdir(place, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);
    const names = [];
    for (const name of await folders(this.folder)) {
      const inner = name.startsWith('@') ? (await folders(join(this.folder, name))).map((one) => `${name}/${one}`) : [name];
      for (const one of inner) if (await stat(join(this.folder, one, 'package.json')).catch(ignoreMissing)) names.push(one);
    }
    return names;
  }

  async packument(name) {
    return JSON.parse(await readFile(join(this.folder, name, 'package.json'), 'utf8'));
  }

  /** The tarball as a stream; `undefined` where only the document came from elsewhere. */
  async tarball(name, version, manifest) {
    const named = new URL(manifest.dist?.tarball ?? 'none:', 'http://localhost/').pathname.split('/').pop() ?? '';
    const own = `${name.split('/').pop()}-${version}.tgz`;
    for (const file of new Set([decodeURIComponent(named), own])) {
      // A name from outside must stay in its folder.
      if (!file || /[/\\]/.test(file) || file === '..') continue;
      const place = join(this.folder, name, file);
      if (await stat(place).catch(ignoreMissing)) return createReadStream(place, { highWaterMark: 1 << 18 });
    }
    return undefined;
  }
}

/** A registry. */
class Remote {
  /** @param {string} url @param {{ token?: string }} options */
  constructor(url, { token } = {}) {
    this.base = url.replace(/\/*$/, '/');
    /** @type {Record<string, string>} */
    this.headers = token ? { authorization: `Bearer ${token}` } : {};
  }

  async #json(path) {
    const response = await ask(new URL(path, this.base).href, { headers: { ...this.headers, accept: 'application/json' } });
    return JSON.parse((await bounded(response, DOCUMENT)).toString());
  }

  /** By the feed of changes, or by a search for everything where there is none. */
  async names() {
    const names = new Set();
    try {
      for (let since = 0; ; ) {
        const { results, last_seq: last } = await this.#json(`_changes?since=${since}&limit=${PAGE}`);
        for (const { id, deleted } of results) deleted ? names.delete(id) : names.add(id);
        if (results.length < PAGE || last === since) return [...names];
        since = last;
      }
    } catch (error) {
      if (![400, 401, 403, 404, 405, 501].includes(error.status)) throw error;
    }
    for (let from = 0; ; from += PAGE) {
      const { objects } = await this.#json(`-/v1/search?text=&size=${PAGE}&from=${from}`);
      for (const { package: found } of objects) names.add(found.name);
      if (objects.length < PAGE) return [...names];
    }
  }

  packument(name) {
    return this.#json(encode(name));
  }

  async tarball(_name, _version, manifest) {
    const url = new URL(manifest.dist.tarball, this.base);
    const own = url.origin === new URL(this.base).origin;
    const response = await ask(url.href, { headers: own ? this.headers : {}, fine: [404] });
    if (response.status === 404) return void (await response.body?.cancel());
    return response.body;
  }
}

/** A publish as npm sends it, its tarball encoded as it comes. */
async function* publishBody(name, version, manifest, tarball) {
  const file = `${name.split('/').pop()}-${version}.tgz`;
  const document = { _id: name, name, 'dist-tags': {}, versions: { [version]: { ...manifest, _id: `${name}@${version}` } } };
  const text = JSON.stringify(document);
  yield Buffer.from(`${text.slice(0, -1)},"_attachments":{${JSON.stringify(file)}:{"content_type":"application/octet-stream","data":"`);
  let length = 0;
  let rest = Buffer.alloc(0);
  for await (const chunk of tarball) {
    length += chunk.length;
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    // Three bytes are four characters: what is left over waits for the next piece.
    const whole = bytes.length - (bytes.length % 3);
    yield Buffer.from(bytes.toString('base64', 0, whole), 'latin1');
    rest = Buffer.from(bytes.subarray(whole));
  }
  yield Buffer.from(`${rest.toString('base64')}","length":${length}}}}`, 'latin1');
}

/**
 * Imports. Versions that are here already with the same content are left as they are, so it can be run again.
 *
 * @param {any} registry
 * @param {{ from: string, names?: string[], token?: string, own: { headers: Record<string, string>, base: string }, adopt: (name: string, document: string) => Promise<unknown>, onProgress?: (standing: any) => void }} options
 */
async function importNpm(registry, { from, names, token, own, adopt, onProgress }) {
  const source = /^https?:/.test(from) ? new Remote(from, { token }) : new Folder(from);
  const here = local(registry, own.headers);
  const wanted = names?.length ? names : await source.names();
  /** @type {{ names: number, imported: number, present: number, missing: number, problems: { name: string, version?: string, problem: string }[] }} */
  const report = { names: 0, imported: 0, present: 0, missing: 0, problems: [] };
  let done = 0;
  await each(wanted, AT_ONCE, async (name) => {
    try {
      await onePackage(name, { source, here, base: own.base, adopt, report });
    } catch (error) {
      report.problems.push({ name, problem: error.message });
    }
    report.names += 1;
    onProgress?.({ phase: 'packages', done: (done += 1), total: wanted.length });
  });
  return report;
}

async function onePackage(name, { source, here, base, adopt, report }) {
  const document = await source.packument(name);
  const path = `${base}/${encode(name)}`;
  const known = JSON.parse((await here.read(`${path}?write=true`)) ?? '{"versions":{}}').versions;
  const time = document.time ?? {};
  const versions = Object.keys(document.versions ?? {}).sort((one, other) => Date.parse(time[one] ?? 0) - Date.parse(time[other] ?? 0));
  let any = false;
  for (const version of versions) {
    const manifest = document.versions[version];
    const there = known[version];
    if (there) {
      any = true;
      const same = ['integrity', 'shasum'].some((hash) => manifest.dist?.[hash] && manifest.dist[hash] === there.dist?.[hash]);
      if (same) report.present += 1;
      else report.problems.push({ name, version, problem: 'it is here already with other content' });
      continue;
    }
    const tarball = await source.tarball(name, version, manifest);
    if (!tarball) {
      report.missing += 1;
      continue;
    }
    const body = publishBody(name, version, manifest, tarball);
    const problem = await here.problem(await here.send('PUT', path, { headers: { 'content-type': 'application/json' }, body }));
    if (problem) report.problems.push({ name, version, problem });
    else {
      any = true;
      report.imported += 1;
    }
  }
  if (any) await adopt(name, JSON.stringify(Object.fromEntries(TAKEN.filter((key) => key in document).map((key) => [key, document[key]]))));
}

module.exports = { importNpm };
