// An Express application with a registry in it. Everything between the two marks is the code of the README, as it stands there.
// Arguments: a file with the IRegistryConfig, and how the application reads bodies:
//   raw      express.raw for every type: the registry gets a Buffer
//   parsed   express.json and express.urlencoded where it is that, express.raw for the rest: the registry gets what users with body parsers hand it
//   stream   no parser: the request itself, unread
//   handler-parsed  as parsed, before `nodeHandler()`: it is handed requests that parsers have read
//   handler  not at all: `nodeHandler()` takes every request before the code of the README sees it
// With `--express5` the application is one of Express 5, whose path patterns spell "everything" differently.
import { readFileSync } from 'node:fs';
import { Readable } from 'stream';
import { SmartRegistry } from 'smartregistry-native';

const [file, bodies, version] = process.argv.slice(2);
const config = JSON.parse(readFileSync(file, 'utf8'));
const { default: express } = await import(version === '--express5' ? 'express5' : 'express');
const everything = version === '--express5' ? '/{*splat}' : '*';

// ---- the README from here ...
const app = express();
const registry = new SmartRegistry(config);
await registry.init();
readBodies(app);
app.all(everything, async (req, res) => {
  const response = await registry.handleRequest({
    method: req.method,
    path: req.path,
    headers: req.headers,
    query: req.query,
    body: req.body,
  });
  res.status(response.status);
  for (const [key, value] of Object.entries(response.headers)) {
    res.setHeader(key, value);
  }
  if (response.body) {
    // All response bodies are ReadableStream<Uint8Array> — pipe to HTTP response
    Readable.fromWeb(response.body).pipe(res);
  } else {
    res.end();
  }
});
const server = app.listen(0, '127.0.0.1');
// ---- ... to here, but for the port, the pattern and the body parser, which the README leaves to its reader.

server.on('listening', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
process.on('SIGTERM', () => {
  server.close(() => registry.destroy());
  server.closeIdleConnections();
});

function readBodies(application) {
  if (bodies === 'handler') return application.use(registry.nodeHandler());
  const isParsed = bodies.endsWith('parsed');
  if (isParsed) application.use(express.json({ limit: '100mb', strict: false }), express.urlencoded({ extended: true }));
  if (bodies === 'stream') {
    application.use((req, res, next) => {
      req.body = req;
      next();
    });
  } else {
    application.use(express.raw({ type: () => true, limit: '100mb' }));
  }
  if (isParsed) application.use(tellOfForms);
  if (bodies === 'handler-parsed') application.use(registry.nodeHandler());
}

/** Whether a client has posted a form is not to be seen from outside. */
function tellOfForms(req, res, next) {
  if (req.is('urlencoded')) console.log(`parsed a form: ${req.path} ${Object.keys(req.body)}`);
  next();
}
