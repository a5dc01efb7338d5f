// The native listener in an application of its own. Arguments: a file with the configuration, and optionally
//   callback   with a provider in JavaScript that is asked for every request
import { readFileSync } from 'node:fs';
import { SmartRegistry } from 'smartregistry-native';

/** As applications write them: a lookup, and a rule. */
class Sessions {
  #sessions = new Map();

  async authenticate() {
    return null;
  }

  async validateToken(token) {
    let session = this.#sessions.get(token);
    if (!session) this.#sessions.set(token, (session = { userId: 'bench', scopes: ['npm:package:*:read'] }));
    return session;
  }

  async createToken() {
    throw new Error('nobody makes tokens here');
  }

  async revokeToken(token) {
    this.#sessions.delete(token);
  }

  async authorize(token, resource, action) {
    return token !== null && action === 'read' && resource.startsWith('npm:package:');
  }
}

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const registry = new SmartRegistry({ ...config, authProvider: process.argv[3] === 'callback' ? new Sessions() : undefined });
await registry.init();
const server = await registry.listen({ port: 0 });
console.log(`listening on ${server.url}`);
process.on('SIGTERM', async () => {
  await server.close();
  await registry.destroy();
});
