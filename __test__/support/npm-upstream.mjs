// Another registry as a proxy sees it: the packages and the times of their publishing are what a test says, and so is what goes wrong.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const hash = (algorithm, bytes, encoding) => createHash(algorithm).update(bytes).digest(encoding);

export async function npmUpstream() {
  const packages = new Map();
  const tarballs = new Map();
  const faults = new Map();
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, url).pathname);
    const tarball = tarballs.get(path);
    const found = tarball ?? (packages.has(path) ? Buffer.from(JSON.stringify(packages.get(path))) : undefined);
    const fault = faults.get(path);
    if (fault) return fault(response, found, request);
    if (!found) return response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"Not found"}');
    response.writeHead(200, { 'content-type': tarball ? 'application/octet-stream' : 'application/json', 'content-length': found.length }).end(found);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${server.address().port}/`;
  const fileOf = (name, version) => `/${name}/-/${name.split('/').at(-1)}-${version}.tgz`;
  return {
    url,
    /** The paths of a package's document and of the tarball of a version. */
    paths: (name, version) => ({ packument: `/${name}`, tarball: fileOf(name, version) }),
    /** Publishes a version; the last one is the latest. */
    add({ name, version, ...manifest }, bytes, time) {
      const path = fileOf(name, version);
      tarballs.set(path, bytes);
      const known = packages.get(`/${name}`) ?? { _id: name, name, 'dist-tags': {}, versions: {}, time: { created: time } };
      const dist = { tarball: new URL(path, url).href, integrity: `sha512-${hash('sha512', bytes, 'base64')}`, shasum: hash('sha1', bytes, 'hex') };
      known.versions[version] = { name, version, ...manifest, dist };
      known['dist-tags'].latest = version;
      Object.assign(known.time, { [version]: time, modified: time });
      packages.set(`/${name}`, known);
    },
    /** @param {((response: import('node:http').ServerResponse, found?: Buffer) => void) | undefined} fault what to answer from now on; without it, what is asked for */
    breaks(path, fault) {
      if (fault) faults.set(path, fault);
      else faults.delete(path);
    },
    close() {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}
