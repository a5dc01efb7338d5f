// What the programs of README.md name and do not make.
type Handler = ReturnType<import('smartregistry-native').SmartRegistry['nodeHandler']>;

declare const SmartRegistry: typeof import('smartregistry-native').SmartRegistry;
declare const registry: import('smartregistry-native').SmartRegistry;
declare const config: import('smartregistry-native').IRegistryInput;
declare const app: { use(handler: Handler): void; use(path: string, handler: Handler): void };
declare const MyUsers: new () => import('smartregistry-native').IAuthProvider;
declare const usedBy: (orgId: string | undefined) => Promise<number>;
declare const quota: number;
declare const downloads: { count(key: string, userId: string | undefined): void };
