// Several server processes on one storage, which may be killed and started again.
import { cli } from '../../scripts/lib/paths.mjs';
import { password } from './matrix.mjs';
import { startServer } from './process.mjs';
import { startRegistry } from './registry.mjs';
import { basicAuth } from './wire.mjs';

const LISTENING = /listening on (http:\/\/127\.0\.0\.1:(\d+))/;

/**
 * Starts `count` listeners on one storage, with user alice and a token of hers for npm.
 *
 * @param {string} storage one of `storages` in registry.mjs
 * @param {number} count
 * @param {object} [more] further options of their configuration
 */
export async function startFleet(storage, count, more = {}) {
  const first = await startRegistry('listener', storage, more);
  await first.addUser('alice', password);
  const access = { token: await first.createToken('alice', 'npm'), basic: basicAuth('alice', password) };
  const spawned = [];
  const start = async () => {
    const argv = [process.execPath, cli, 'serve', '--port', '0', '--config', first.file];
    const server = await startServer(argv, { cwd: first.box.dir, env: first.box.env, ready: LISTENING });
    spawned.push(server);
    const url = server.match[1];
    return { ...access, pid: server.pid, url, npm: `${url}/npm/`, log: server.log, stop: server.stop };
  };
  const members = [{ ...access, url: first.url, npm: first.npm, log: first.log }];
  while (members.length < count) members.push(await start());
  return {
    members,
    registry: first,
    /** One more process on the same storage. */
    start,
    async stop() {
      for (const server of spawned) await server.stop();
      await first.stop();
    },
  };
}
