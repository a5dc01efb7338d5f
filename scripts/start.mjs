// `npm start`: builds what is missing and runs the server; flags pass through (`npm start -- --port 0 --data DIR`).
import { spawn } from 'node:child_process';
import { build } from './build.mjs';
import { nodeModules } from './lib/node-modules.mjs';
import { cli } from './lib/paths.mjs';
import { script } from './lib/run.mjs';

await script(async () => {
  await nodeModules({ dev: false });
  await build(process.env.SMARTREGISTRY_BUILD_PROFILE || 'release-fast');
  return serve(process.argv.slice(2));
});

/** Node cannot replace itself by another program, so this process stays and hands signals and the exit code through. */
function serve(flags) {
  const server = spawn(process.execPath, [cli, 'serve', ...flags], { stdio: 'inherit' });
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
    // A terminal sends SIGINT to the whole group: the server has it already.
    process.on(name, () => name === 'SIGINT' && process.stdin.isTTY ? undefined : server.kill(name));
  }
  return new Promise((done, fail) => {
    server.on('error', fail);
    server.on('close', (code, signal) => done(code ?? (signal ? 1 : 0)));
  });
}
