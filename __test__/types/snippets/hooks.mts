import { SmartRegistry, IStorageHooks, IStorageHookContext } from '@push.rocks/smartregistry';
import type { IRegistryConfig } from '@push.rocks/smartregistry';

declare const config: IRegistryConfig;
declare function getStorageUsage(orgId: string): Promise<number>;
declare function getQuota(orgId: string): Promise<number>;
declare function isProtectedPackage(key: string): Promise<boolean>;
declare const auditLog: { write(entry: object): Promise<void> };

const storageHooks: IStorageHooks = {
  async beforePut(ctx: IStorageHookContext) {
    if (ctx.actor?.orgId) {
      const usage = await getStorageUsage(ctx.actor.orgId);
      const quota = await getQuota(ctx.actor.orgId);
      if (usage + (ctx.metadata?.size || 0) > quota) {
        return { allowed: false, reason: 'Storage quota exceeded' };
      }
    }
    return { allowed: true };
  },

  async afterPut(ctx: IStorageHookContext) {
    await auditLog.write({
      action: 'storage.put',
      key: ctx.key,
      protocol: ctx.protocol,
      actor: ctx.actor,
      timestamp: ctx.timestamp,
    });
  },

  async beforeDelete(ctx: IStorageHookContext) {
    if (await isProtectedPackage(ctx.key)) {
      return { allowed: false, reason: 'Cannot delete protected package' };
    }
    return { allowed: true };
  },
};

const registry = new SmartRegistry({ ...config, storageHooks });

export { registry, storageHooks };
