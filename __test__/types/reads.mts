// Programs of users of the replaced package that read what they pass on, or are given: nothing of it may be missing, or of a form that they don't know.
import type {
  AuthManager,
  IAuthConfig,
  IAuthProvider,
  IAuthToken,
  ICredentials,
  IProtocolConfig,
  IRegistryConfig,
  IRequestContext,
  IResponse,
  SmartRegistry,
  TRegistryProtocol,
} from '@push.rocks/smartregistry';
import type { IncomingMessage } from 'node:http';

/** A middleware around `handleRequest()`. */
export async function audited(registry: SmartRegistry, context: IRequestContext): Promise<IResponse> {
  const agent: string = context.headers['user-agent'];
  const isBearer: boolean = context.headers.authorization?.startsWith('Bearer ');
  const text: string = context.query.text;
  const [first]: string[] = context.query.tags;
  const name: string = context.body?.name;
  const raw: string | undefined = context.rawBody?.toString('base64');
  context.headers['x-extra'] = '1';
  context.headers.accept = ['text/html', 'application/json'];
  context.query.size = '20';
  console.log(agent, isBearer, text, first, name, raw, Object.keys(context.headers).length);
  return registry.handleRequest({ ...context, body: { ...context.body, seen: true } });
}

export const contextOf = (req: IncomingMessage, body: unknown): IRequestContext => ({ method: req.method ?? 'GET', path: req.url ?? '/', headers: req.headers, query: {}, body });

export async function who(auth: AuthManager, text: string): Promise<{ type: TRegistryProtocol; readonly: boolean } | null> {
  for (const { type, readonly, key } of await auth.listUserTokens('alice')) console.log(type.toUpperCase(), readonly satisfies boolean, key?.length);
  const token = await auth.validateToken(text, 'npm');
  if (!token) return null;
  const kept: IAuthToken = token;
  await auth.authorize(kept, 'npm:package:x', 'read');
  return { type: token.type, readonly: token.readonly };
}

export const mounts = (config: IRegistryConfig): string[] => [config.npm, config.oci].flatMap((one?: IProtocolConfig) => (one ? [one.basePath.replace(/\/$/, '')] : []));
export const secret = (config: IRegistryConfig): string => config.auth.jwtSecret;
export const isShared = ({ tokenStore }: IAuthConfig): boolean => tokenStore.length > 0 && tokenStore !== 'memory';

/** A provider that lists of tokens what it knows. */
export class Sessions implements IAuthProvider {
  async authenticate({ username }: ICredentials): Promise<string | null> {
    return username;
  }
  async validateToken(token: string): Promise<IAuthToken | null> {
    return { userId: token, scopes: [] };
  }
  async createToken(userId: string, protocol: TRegistryProtocol): Promise<string> {
    return `${protocol}-${userId}`;
  }
  async revokeToken(): Promise<void> {}
  async authorize(token: IAuthToken | null): Promise<boolean> {
    return token !== null;
  }
  async listUserTokens(userId: string): Promise<Array<{ key: string; readonly: boolean; created: string; protocol?: TRegistryProtocol }>> {
    return [{ key: userId, readonly: true, created: new Date().toISOString() }];
  }
}
