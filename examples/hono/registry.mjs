// The registry of this application: in a local folder, or in an S3 bucket where the environment names one.
import { randomBytes } from 'node:crypto';
import { SmartRegistry } from 'smartregistry-native';

const { env } = process;

const bucket = {
  endpoint: env.S3_ENDPOINT,
  region: env.S3_REGION,
  bucketName: env.S3_BUCKET,
  accessKey: env.S3_ACCESS_KEY,
  accessSecret: env.S3_SECRET_KEY,
};
const folder = { type: 'local', path: env.DATA ?? './registry-data' };

export const registry = new SmartRegistry({
  storage: env.S3_BUCKET ? bucket : folder,
  auth: {
    // Signs the tokens of container clients: several processes need the same one.
    jwtSecret: env.JWT_SECRET ?? randomBytes(32).toString('hex'),
    tokenStore: 'storage',
    npmTokens: { enabled: true },
    ociTokens: { enabled: true },
  },
  npm: { enabled: true, basePath: '/npm' },
  oci: { enabled: true, basePath: '/oci' },
});
await registry.init();

// The first user; `npx smartregistry-native user add` makes more.
if (env.REGISTRY_USER) {
  const user = await registry.getAuthManager().authenticate({ username: env.REGISTRY_USER, password: env.REGISTRY_PASSWORD });
  if (user === null) throw new Error(`${env.REGISTRY_USER} is there already, with another password than REGISTRY_PASSWORD`);
}
