// Sigstore, for clients that ask it whom to trust before they believe a signature: a root of trust (TUF), a certificate authority and a transparency log,
// each with keys of its own. Clients have the addresses of the public ones built in, so they are led here by a proxy whose certificates they trust.
import { createHash, generateKeyPairSync, sign, webcrypto } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createSecureContext, TLSSocket } from 'node:tls';
import { client } from '../../scripts/clients.mjs';
import { issuer } from './authenticator.mjs';
import { write } from './packages.mjs';

const YEAR = 365 * 86_400_000;
const KEY = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/**
 * @param {{ file: string }} npm whose libraries say where Sigstore is, and sign
 */
export async function sigstore(npm) {
  const mock = createRequire((await client('sigstore-mock')).file);
  const library = createRequire(npm.file);
  const { services, trusted } = await makeServices(mock);
  const repository = tufRepository({ 'trusted_root.json': JSON.stringify(trusted) });
  const server = createServer((request, response) => serve(services, repository, request, response));
  const authority = await certificates(mock('@peculiar/x509'));
  server.on('connect', (request, socket) => terminate(server, authority, request, socket));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${server.address().port}`;
  const { DEFAULT_MIRROR_URL } = library('@sigstore/tuf');
  const mirror = new URL(DEFAULT_MIRROR_URL);
  return {
    /**
     * The variables with which a client finds its way here, and in `folders` the root of all trust, which else it would take from what it was built with.
     *
     * @param {string} folder of the certificate
     * @param {string[]} folders in which clients keep what they know of Sigstore
     */
    async env(folder, folders) {
      await write(folder, { 'authority.pem': authority.pem });
      const own = encodeURIComponent(mirror.host + mirror.pathname.replace(/\/$/, ''));
      for (const known of folders) await write(join(known, own), { 'root.json': repository['root.json'] });
      // Later npm versions fetch with what is Node's own, which wants to be told.
      return { HTTPS_PROXY: url, NO_PROXY: '127.0.0.1', NODE_USE_ENV_PROXY: '1', NODE_EXTRA_CA_CERTS: join(folder, 'authority.pem') };
    },
    /** The bundle of a signed statement. */
    async attest(statement) {
      const identityToken = issuer('https://builds.example.com').token({ aud: 'sigstore', sub: 'https://builds.example.com/acme/tool' });
      const options = { fulcioURL: url, rekorURL: url, identityToken };
      return library('sigstore').attest(Buffer.from(JSON.stringify(statement)), 'application/vnd.in-toto+json', options);
    },
    close() {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

/** Certificate authority and log, and what a client must know to check what they say. */
async function makeServices(mock) {
  const { fulcioHandler, initializeCA, initializeCTLog, initializeTLog, rekorHandler } = mock('./index.js');
  const [forCa, forCertificates, forStatements] = [newKey(), newKey(), newKey()];
  const ctlog = await initializeCTLog(forCertificates);
  const ca = await initializeCA(forCa, ctlog);
  const tlog = await initializeTLog('http://log.example.com', forStatements);
  // The handler logs what it is told; a log tells hashes of it.
  const logged = rekorHandler(tlog);
  const handlers = [fulcioHandler(ca), { ...logged, fn: (body) => logged.fn(JSON.stringify(entryOf(JSON.parse(body)))) }];
  const validFor = { start: new Date(Date.now() - 60_000).toISOString() };
  const log = (baseUrl, { publicKey }) => {
    const der = publicKey.export({ format: 'der', type: 'spki' });
    return {
      baseUrl,
      hashAlgorithm: 'SHA2_256',
      publicKey: { rawBytes: der.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
      logId: { keyId: createHash('sha256').update(der).digest('base64') },
    };
  };
  return {
    services: Object.fromEntries(handlers.map(({ path, fn }) => [path, fn])),
    trusted: {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: [log('http://log.example.com', forStatements)],
      ctlogs: [log('http://certificates.example.com', forCertificates)],
      certificateAuthorities: [
        {
          subject: { organization: 'example.com', commonName: 'tests' },
          uri: 'http://ca.example.com',
          certChain: { certificates: [{ rawBytes: ca.rootCertificate.toString('base64') }] },
          validFor,
        },
      ],
      timestampAuthorities: [],
    },
  };
}

/** What a log keeps of a signed envelope that it is handed: its hashes and signatures. */
function entryOf({ apiVersion, kind, spec: { proposedContent } }) {
  const envelope = JSON.parse(proposedContent.envelope);
  const hash = (bytes) => ({ algorithm: 'sha256', value: createHash('sha256').update(bytes).digest('hex') });
  const signatures = envelope.signatures.map(({ sig }, at) => ({ signature: sig, verifier: proposedContent.verifiers[at] }));
  return { apiVersion, kind, spec: { envelopeHash: hash(proposedContent.envelope), payloadHash: hash(Buffer.from(envelope.payload, 'base64')), signatures } };
}

/** The files of a TUF repository with these targets, by path. One key has every role. */
function tufRepository(targets) {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const key = { keytype: 'ed25519', scheme: 'ed25519', keyval: { public: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex') } };
  const keyid = createHash('sha256').update(canonical(key)).digest('hex');
  const signed = (_type, more) => {
    const says = { _type, spec_version: '1.0.31', version: 1, expires: `${new Date(Date.now() + YEAR).toISOString().slice(0, 19)}Z`, ...more };
    return JSON.stringify({ signed: says, signatures: [{ keyid, sig: sign(null, Buffer.from(canonical(says)), privateKey).toString('hex') }] });
  };
  const role = { keyids: [keyid], threshold: 1 };
  const entry = (text) => ({ length: Buffer.byteLength(text), hashes: { sha256: createHash('sha256').update(text).digest('hex') } });
  return {
    'root.json': signed('root', { consistent_snapshot: false, keys: { [keyid]: key }, roles: { root: role, timestamp: role, snapshot: role, targets: role } }),
    'timestamp.json': signed('timestamp', { meta: { 'snapshot.json': { version: 1 } } }),
    'snapshot.json': signed('snapshot', { meta: { 'targets.json': { version: 1 } } }),
    'targets.json': signed('targets', { targets: Object.fromEntries(Object.entries(targets).map(([name, text]) => [name, entry(text)])) }),
    ...Object.fromEntries(Object.entries(targets).map(([name, text]) => [`targets/${name}`, text])),
  };
}

/** JSON as TUF signs it: keys in order, no white space. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join()}}`;
}

async function serve(services, repository, request, response) {
  const { pathname } = new URL(request.url, 'http://any.example.com');
  const answer = services[pathname];
  if (!answer) {
    const file = repository[pathname.slice(1)];
    return response.writeHead(file ? 200 : 404, { 'content-type': 'application/json' }).end(file);
  }
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) body += chunk;
  const { statusCode, response: text, contentType = 'text/plain' } = await answer(body);
  response.writeHead(statusCode, { 'content-type': contentType }).end(text);
}

/** An authority that says of every host that it is us. */
async function certificates(x509) {
  x509.cryptoProvider.set(webcrypto);
  const validity = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + YEAR), signingAlgorithm: KEY };
  const generate = () => webcrypto.subtle.generateKey(KEY, true, ['sign', 'verify']);
  const root = await generate();
  const name = 'CN=authority of the tests';
  const ca = await x509.X509CertificateGenerator.createSelfSigned({ ...validity, serialNumber: '01', name, keys: root, extensions: [new x509.BasicConstraintsExtension(true, 0, true)] });
  const own = await generate();
  const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(await webcrypto.subtle.exportKey('pkcs8', own.privateKey)).toString('base64')}\n-----END PRIVATE KEY-----\n`;
  let issued = 1;
  return {
    pem: ca.toString('pem'),
    async of(host) {
      const serialNumber = (issued += 1).toString(16).padStart(4, '0');
      const extensions = [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: host }])];
      const leaf = await x509.X509CertificateGenerator.create({ ...validity, serialNumber, subject: `CN=${host}`, issuer: name, publicKey: own.publicKey, signingKey: root.privateKey, extensions });
      return createSecureContext({ key, cert: leaf.toString('pem') });
    },
  };
}

/** Speaks TLS with who wants to be connected to a host, in that host's place. */
async function terminate(server, authority, request, socket) {
  socket.on('error', () => {});
  const secureContext = await authority.of(request.url.replace(/:\d+$/, ''));
  socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
  const secure = new TLSSocket(socket, { isServer: true, secureContext });
  secure.on('error', () => {});
  server.emit('connection', secure);
}
