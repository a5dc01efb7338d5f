// The S3 server of the test section in the README that users of the replaced package know: smarts3, which is s3rver with a wrapper.
// The wrapper keeps one folder for all its instances and a fixed port, so the server inside is started directly.
// Arguments: the installed smarts3 (its main file), the folder for the buckets.
import { createRequire } from 'node:module';

const [main, directory] = process.argv.slice(2);
const S3rver = createRequire(main)('s3rver');
const server = new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory });
const { port } = await server.run();
console.log(`s3 server on port ${port}`);

process.on('SIGTERM', () => process.exit(0));
