//! Access points. What they let in is nothing of the folder's.

use std::time::Instant;

use serde_json::json;

use crate::openapi::account::Account;
use crate::openapi::account::Asked;
use crate::openapi::answer::Outcome;
use crate::openapi::answer::Refusal;
use crate::openapi::answer::refusal;

#[derive(Debug)]
pub(super) struct AccessPoint {
    made: Instant,
    domain: String,
    name: String,
    access_group: String,
    vpc: String,
    vswitch: String,
    path: String,
    ram: bool,
}

impl Account {
    pub(super) fn create_access_point(&mut self, asked: Asked<'_>) -> Outcome {
        self.file_system(asked)?;
        let path = asked.optional("RootDirectory").unwrap_or("/").to_owned();
        let folder = self.root.join(asked.required("FileSystemId")?).join(&path[1..]);
        if !folder.is_dir() {
            asked.required("OwnerUserId")?;
            asked.required("OwnerGroupId")?;
            drop(std::fs::create_dir_all(folder));
        }
        let number = self.next_id();
        let id = format!("ap-{}", &number[2..]);
        let (file_system, region) = (asked.required("FileSystemId")?, asked.required("RegionId")?);
        let domain = format!("{id}.{file_system}.{region}.nas.aliyuncs.com");
        let access_point = AccessPoint {
            made: Instant::now(),
            domain: domain.clone(),
            name: asked.optional("AccessPointName").unwrap_or_default().to_owned(),
            access_group: asked.required("AccessGroup")?.to_owned(),
            vpc: asked.required("VpcId")?.to_owned(),
            vswitch: asked.required("VswId")?.to_owned(),
            path,
            ram: asked.optional("EnabledRam") == Some("true"),
        };
        self.file_system(asked)?.access_points.insert(id.clone(), access_point);
        Ok(json!({ "AccessPoint": { "AccessPointId": id, "AccessPointDomain": domain } }))
    }

    pub(super) fn describe_access_point(&mut self, asked: Asked<'_>) -> Outcome {
        let timing = self.timing;
        let id = asked.required("AccessPointId")?;
        let file_system_id = asked.required("FileSystemId")?;
        let one = self.file_system(asked)?.access_points.get(id).ok_or_else(not_found)?;
        let status = if one.made.elapsed() < timing.pending { "Pending" } else { "Active" };
        Ok(json!({ "AccessPoint": {
            "ARN": format!("acs:nas:cn-test:1:accesspoint/{id}"), "AccessGroup": one.access_group,
            "AccessPointId": id, "AccessPointName": one.name, "CreateTime": "1709619668276167",
            "DomainName": one.domain, "EnabledRam": one.ram, "FileSystemId": file_system_id,
            "ModifyTime": "1709619668276167", "RegionId": "cn-test", "RootPath": one.path, "RootPathStatus": "2",
            "Status": status, "VSwitchId": one.vswitch, "VpcId": one.vpc, "Tags": [],
        } }))
    }

    pub(super) fn delete_access_point(&mut self, asked: Asked<'_>) -> Outcome {
        let id = asked.required("AccessPointId")?;
        self.file_system(asked)?.access_points.remove(id).ok_or_else(not_found)?;
        Ok(json!({}))
    }
}

/// The code that the vendor's own driver handles.
fn not_found() -> Refusal {
    refusal(404, "NotFound", "The specified access point does not exist.")
}
