import type { IAuthConfig, IProtocolConfig, IStorageConfig } from '@push.rocks/smartregistry';

// The shapes that it documents: whoever has a value of one can hand it over.
declare const shapes: {
  storage: {
    accessKey: string; // S3 access key
    accessSecret: string; // S3 secret key
    endpoint: string; // S3 endpoint
    port?: number; // Default: 443
    useSsl?: boolean; // Default: true
    region?: string; // AWS region
    bucketName: string; // Bucket name for registry storage
  };
  auth: {
    jwtSecret: string;
    tokenStore: 'memory' | 'redis' | 'database';
    npmTokens: { enabled: boolean; defaultReadonly?: boolean };
    ociTokens: { enabled: boolean; realm: string; service: string };
    pypiTokens: { enabled: boolean };
    rubygemsTokens: { enabled: boolean };
  };
  protocol: {
    enabled: boolean;
    basePath: string; // URL prefix, e.g. '/npm'
    registryUrl?: string; // Public-facing base URL (used in generated metadata links)
    features?: Record<string, boolean>;
  };
};

export const storage = (): IStorageConfig => shapes.storage;
export const auth = (): IAuthConfig => shapes.auth;
export const protocol = (): IProtocolConfig => shapes.protocol;
