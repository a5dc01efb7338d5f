import { expect, tap } from '@git.zone/tstest/tapbundle';
import { DefaultAuthProvider, type IAuthProvider, type IAuthToken, type ICredentials, type TRegistryProtocol } from '../ts/index.js';
import { bearer, createTestRegistry, publishBody } from './helpers/registry.js';

class MemoryProvider implements IAuthProvider {
  private sessions = new Map<string, IAuthToken>();
  public asked: string[] = [];

  public async authenticate({ username, password }: ICredentials) {
    return password === 'right' ? username : null;
  }

  public async validateToken(token: string) {
    return this.sessions.get(token) ?? null;
  }

  public async createToken(userId: string, protocol: TRegistryProtocol) {
    const token = `session-${this.sessions.size}`;
    this.sessions.set(token, { type: protocol, userId, scopes: [`${protocol}:*:*:*`], readonly: false });
    return token;
  }

  public async revokeToken(token: string) {
    this.sessions.delete(token);
  }

  public async authorize(token: IAuthToken | null, resource: string, action: string) {
    this.asked.push(`${resource} ${action}`);
    return action === 'read' || (token !== null && this.mayWrite(token.userId));
  }

  private mayWrite(userId: string) {
    return userId === 'alice';
  }
}

tap.test('Auth provider: a class with `this`', async () => {
  const provider = new MemoryProvider();
  const registry = await createTestRegistry({ authProvider: provider });
  const publish = (token: string, name: string) =>
    registry.handleRequest({ method: 'PUT', path: `/npm/${name}`, headers: bearer(token), query: {}, body: publishBody(name, '1.0.0') });
  expect((await publish(await provider.createToken('alice', 'npm'), 'hers')).status).toEqual(201);
  expect((await publish(await provider.createToken('bob', 'npm'), 'his')).status).toEqual(403);
  expect((await publish('unknown', 'nobodys')).status).toEqual(401);
  expect(provider.asked).toContain('npm:package:hers write');
  await registry.destroy();
});

tap.test('Auth provider: a plain object', async () => {
  const provider: IAuthProvider = {
    authenticate: () => null,
    validateToken: (token) => (token === 'magic' ? { type: 'npm', userId: 'robot', scopes: ['npm:package:*:write'], readonly: false } : null),
    createToken: () => 'magic',
    revokeToken: () => {},
    authorize: (token) => token?.userId === 'robot',
  };
  const registry = await createTestRegistry({ authProvider: provider });
  const response = await registry.handleRequest({ method: 'PUT', path: '/npm/made', headers: bearer('magic'), query: {}, body: publishBody('made', '1.0.0') });
  expect(response.status).toEqual(201);
  await registry.destroy();
});

tap.test('Auth provider: the default one, wrapped', async () => {
  class Loud extends DefaultAuthProvider {
    public seen: string[] = [];
    public async authenticate(credentials: ICredentials) {
      this.seen.push(credentials.username);
      return super.authenticate(credentials);
    }
  }
  const provider = new Loud({ jwtSecret: 'a secret of the parity suite, long enough' });
  await provider.init();
  expect(await provider.authenticate({ username: 'carol', password: 'testpass-17' })).toEqual('carol');
  expect(provider.seen).toEqual(['carol']);
});

export default tap.start();
